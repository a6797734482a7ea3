"""The command `odcloud`: what its commands are, and how it ends. The commands themselves are in `launcher.commands`.

Exit codes: 0 done, 1 the job (or the report) failed, 2 wrong input or no way to go on, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

import click

from launcher.commands import datasets, image, jobs, project, results, training
from launcher.commands.options import CONTEXT, passed_on
from launcher.errors import UserError


def _version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        click.echo(f"odcloud {version('odcloud')}")
        context.exit()


@click.group(context_settings=CONTEXT)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def odcloud() -> None:
    """Distributed training of object detectors: Pulumi provisions, odcloud launches.

    \b
    Everything on this machine, in the project's folder:
      odcloud local start
      eval "$(odcloud local env)"
      odcloud data digits digits
      pulumi stack select --create local
      pulumi up
      odcloud train --config examples/digits/job.yaml
      odcloud eval
      odcloud report

    On Google Cloud: `odcloud init STACK` instead of the lines with `local`, and the rest is the same.
    """


def _old_command(name: str) -> None:
    """Adds gcloud's old command, whose many flags are read (and imported) only when it is called."""
    settings = {"ignore_unknown_options": True, "allow_interspersed_args": False}

    @odcloud.command(
        name, help="The old command line: jobs submit training, list, …", add_help_option=False, context_settings=settings
    )
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def command(arguments: tuple[str, ...]) -> Any:
        from launcher.commands.mlengine import group

        return group.main(list(arguments), prog_name=f"odcloud {name}", standalone_mode=False)


_old_command("ml-engine")
_old_command("ai-platform")
for _command in (
    passed_on("local", "localcloud", "The local cloud: start, stop, status, env, reset, chaos."),
    project.init,
    project.doctor,
    datasets.data,
    datasets.pipeline_config,
    datasets.export,
    datasets.predict,
    training.train,
    training.cost,
    training.resubmit,
    training.evaluate,
    results.report,
    results.tensorboard,
    results.open_page,
    jobs.jobs,
    image.image,
):
    odcloud.add_command(_command)


def main() -> NoReturn:
    """The entry point: runs a command and turns whatever ends it into one message and an exit code."""
    try:
        code = odcloud(standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Abort:  # click's word for Ctrl-C
        code = 130
    except click.exceptions.NoArgsIsHelpError as error:  # no fault that needs naming: the command's help says what there is
        click.echo(error.format_message(), err=True)
        code = 2
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        usage = f" (see {context.command_path} --help)" if context else ""
        code = _fail(f"{error.format_message()}{usage}")
    except UserError as error:
        code = _fail(str(error))
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # … | head: nobody reads on, which is no fault
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:  # a file that this user may not read, a full disk, a working folder that is gone
        code = _fail(": ".join(str(part) for part in (error.filename, error.strerror or error) if part))
    except Exception as error:
        # Imported here, for it is needed by those commands only that talk to Google and then is there already.
        from launcher.google.api import GoogleError

        if not isinstance(error, GoogleError):
            raise
        code = _fail(str(error))
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> int:
    click.echo(f"odcloud: error: {message}", err=True)
    return 2


if __name__ == "__main__":
    main()
