"""The command `odcloud`. Thin: a command's module is imported when the command runs, so `--help` costs next to nothing.

Exit codes: 0 done, 1 the job (or the report) failed, 2 wrong input or no way to go on, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from launcher.errors import UserError

_Command = Callable[..., Any]
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True}

stack_option = click.option("--stack", metavar="NAME", help="The Pulumi stack; by default the selected one.")
format_option = click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", help="Form of the result on stdout."
)
follow_option = click.option(
    "--follow/--detach", default=True, help="Follow the job to its end (Ctrl-C detaches), or return at once."
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Print the request's body as JSON and send nothing.")


def job_options(command: _Command) -> _Command:
    """The flags that go before a training's job file; their names are the keys of overrides.py."""
    sizes = (
        click.option("--workers", metavar="N", help="Number of workers."),
        click.option("--parameter-servers", metavar="N", help="Number of parameter servers."),
    )
    return _with(sizes, program_options(command))


def program_options(command: _Command) -> _Command:
    """The flags that go before any job file."""
    options = (
        click.option("--pipeline-config", metavar="gs://…", help="The pipeline configuration."),
        click.option("--packages", metavar="FILE,…", help="Python packages of this machine, or gs://, instead of the stack's."),
        click.option("--python-module", metavar="MODULE", help="The module to run."),
        click.option("--executor-image", metavar="IMAGE", help="The prebuilt image that runs the Python packages."),
        click.option("--image", metavar="IMAGE", help="An image of your own, whose program runs instead of packages."),
        click.option("--service-account", metavar="EMAIL", help="The account that the job runs as."),
        click.option("--network", metavar="NAME", help="The network to peer with: projects/NUMBER/global/networks/NAME."),
        click.option(
            "--tensorboard",
            metavar="NAME",
            help="The Vertex AI TensorBoard to fill: projects/PROJECT/locations/REGION/tensorboards/NUMBER.",
        ),
        click.option("--kms-key", metavar="NAME", help="The Cloud KMS key that encrypts the job: projects/…/cryptoKeys/KEY."),
        click.option(
            "--enable-web-access/--no-enable-web-access", default=None, help="Allow interactive shells into the replicas."
        ),
        click.option(
            "--strategy", metavar="NAME", help="STANDARD, SPOT (cheap, may be taken away) or FLEX_START (waits for machines)."
        ),
        click.option("--timeout", metavar="DURATION", help="Longest run time, e.g. 43200s."),
        click.option("--max-wait", metavar="DURATION", help="Longest wait for machines under FLEX_START, e.g. 3600s."),
        click.option(
            "--restart-on-worker-restart/--no-restart-on-worker-restart",
            default=None,
            help="Restart the whole job when one replica is restarted.",
        ),
        click.option(
            "--any-machine-type/--only-known-machine-types",
            default=None,
            help="Pass on machine types that are not known here, for Google to judge.",
        ),
        click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label of the job; may be repeated."),
    )
    return _with(options, command)


def _with(options: tuple[_Command, ...], command: _Command) -> _Command:
    for option in reversed(options):
        command = option(command)
    return command


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


def _passed_on(group: click.Group, name: str, module: str, text: str, *first: str) -> None:
    """Adds a command that another room's `python -m MODULE` takes over, arguments and all."""

    @group.command(name, help=text, add_help_option=False, context_settings={"ignore_unknown_options": True})
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def command(arguments: tuple[str, ...]) -> NoReturn:
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", module, *first, *arguments])


_passed_on(odcloud, "local", "localcloud", "The local cloud: start, stop, status, env, reset, chaos.")


@odcloud.command(short_help="Make a stack: write Pulumi.STACK.yaml from a few answers.")
@click.argument("stack")
@click.option("--project", metavar="ID", help="The Google Cloud project.")
@click.option("--region", metavar="REGION", help="Region of bucket and jobs, e.g. us-central1.")
@click.option("--on-destroy", metavar="WHAT", help="refuse, keepCheckpoints or delete: what becomes of results at the end.")
@click.option("--data-dir", metavar="DIR", help="A dataset that `pulumi up` uploads; for large ones: `odcloud data push`.")
@click.option("--pipeline-config", metavar="FILE", help="The pipeline configuration, from the project's folder.")
@click.option("--github-repository", metavar="OWNER/NAME", help="The GitHub repository whose workflows may deploy.")
@format_option
def init(stack: str, form: str, **answers: str | None) -> int:
    """Make a stack: write Pulumi.STACK.yaml from a few answers, which are asked for if they are not given."""
    from launcher import init as command

    keys = {"project": "gcp:project", "region": "gcp:region", "on_destroy": "odcloud:onDestroy", "data_dir": "odcloud:dataDir"}
    keys |= {"pipeline_config": "odcloud:pipelineConfig", "github_repository": "odcloud:githubRepository"}
    return command.init(stack, {keys[name]: value for name, value in answers.items()}, form)


@odcloud.group()
def data() -> None:
    """Make, fetch, convert, check and upload datasets."""


for _name, _text in (
    ("digits", "Make the digits dataset."),
    ("fetch", "Download Oxford-IIIT Pet or PASCAL VOC."),
    ("convert", "Convert Oxford-IIIT Pet, PASCAL VOC or COCO."),
):
    _passed_on(data, _name, "trainer.data", _text, _name)


def _reads_buckets(name: str, text: str) -> None:
    """The same for a command whose arguments may be gs:// URIs, which are fetched for it."""

    @data.command(name, help=text, add_help_option=False, context_settings={"ignore_unknown_options": True})
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def command(arguments: tuple[str, ...]) -> int:
        from launcher import datafiles

        return datafiles.with_fetched("trainer.data", [name, *arguments])


_reads_buckets("inspect", "Show what a dataset holds, and whether training can use it.")
_reads_buckets("check", "Check TFRecord files before training.")


@data.command("push", short_help="Upload a dataset's folder to where the stack has its data.")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.argument("destination", required=False, metavar="[gs://…]")
@stack_option
@format_option
def data_push(folder: Path, destination: str | None, stack: str | None, form: str) -> int:
    """Upload a dataset's folder, by default to where the stack has its data.

    Files that are there already, by their checksums, are not sent again: interrupted, the command goes on.
    """
    from launcher import push

    return push.push(folder, destination, stack, form)


@odcloud.command(
    "config",
    help="Check, explain or convert a pipeline configuration.",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def pipeline_config(arguments: tuple[str, ...]) -> int:
    from launcher import datafiles

    return datafiles.with_fetched("trainer.config", arguments)


@odcloud.command(short_help="Export a run's last checkpoint as a SavedModel.")
@click.argument("source", metavar="RUN|CHECKPOINT_DIR")
@click.argument("destination", metavar="DEST")
@click.option("--label-map", metavar="FILE", help="The label map; by default the one that the configuration names.")
@stack_option
@format_option
def export(source: str, destination: str, label_map: str | None, stack: str | None, form: str) -> int:
    """Export the last checkpoint of a run, or of a folder (here or gs://…), as a SavedModel.

    It takes image tensors, encoded images and tf.Examples, and has the label map inside.

    \b
      odcloud export object_detection_1511212800 model
      odcloud predict model photo.jpg
    """
    from launcher import export as room

    return room.export(source, destination, label_map, stack, form)


_passed_on(odcloud, "predict", "trainer.predict", "Detect objects in image files with an exported model, and draw them.")


def _old_command(name: str) -> None:
    """Adds gcloud's old command, whose many flags are read (and imported) only when it is called."""
    settings = {"ignore_unknown_options": True, "allow_interspersed_args": False}

    @odcloud.command(
        name, help="The old command line: jobs submit training, list, …", add_help_option=False, context_settings=settings
    )
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def command(arguments: tuple[str, ...]) -> Any:
        from launcher.mlengine_cli import group

        return group.main(list(arguments), prog_name=f"odcloud {name}", standalone_mode=False)


_old_command("ml-engine")
_old_command("ai-platform")


@odcloud.command(short_help="Launch a run's training, or follow the one under way.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    required=True,
    help="The job file: native worker pools, or the old page's `trainingInput`.",
)
@click.option("--run", metavar="RUN", help="The run to go on with or to follow; by default a new one.")
@click.option("--max-cost", type=float, metavar="USD", help="End a new job before it has cost more, at list prices.")
@click.option(
    "--fallback-regions",
    metavar="A,B",
    help="Regions to try in turn when the stack's has no machines or no quota for the job; the bucket stays where it is.",
)
@click.option("--scale-lr", is_flag=True, help="Divide the learning rate by the number of workers.")
@click.option("--explain", is_flag=True, help="Show each value of the job and where it comes from; send nothing.")
@job_options
@stack_option
@follow_option
@dry_run_option
@format_option
def train(
    config: Path,
    run: str | None,
    max_cost: float | None,
    fallback_regions: str | None,
    scale_lr: bool,
    explain: bool,
    stack: str | None,
    follow: bool,
    dry_run: bool,
    form: str,
    **flags: Any,
) -> int:
    """Launch a run's training job, or follow the one that is under way.

    A run whose last job has ended gets a new one, which goes on from the last checkpoint.

    \b
    Examples:
      odcloud train --config job.yaml --dry-run
      odcloud train --config job.yaml --workers 4 --strategy SPOT --max-cost 20
      odcloud train --config job.yaml --run object_detection_1500000000

    Each value of the job is the flag's, else the environment's (ODCLOUD_ and the flag's name: ODCLOUD_WORKERS), else the job
    file's, else the stack's, else the default; --explain shows which.
    """
    from launcher import launch

    fallback = [region.strip() for region in (fallback_regions or "").split(",") if region.strip()]
    return launch.train(config, run, stack, follow, dry_run, form, max_cost, fallback, scale_lr, explain, flags)


@odcloud.command(short_help="Price a training job.")
@click.option("--config", type=click.Path(path_type=Path), required=True, help="The job file.")
@click.option(
    "--hours", type=float, metavar="H", help="Price of so many hours; by default of the job's timeout, if it has one."
)
@job_options
@stack_option
@format_option
def cost(config: Path, hours: float | None, stack: str | None, form: str, **flags: Any) -> int:
    """Price a training job: machines, accelerators and disks, by Google's catalogue or by a dated table."""
    from launcher import quote

    return quote.quote(config, hours, stack, form, flags)


@odcloud.command()
@click.argument("run")
@click.option("--run", "new", metavar="RUN", help="Id of the new run, by default a new one; RUN's own to go on in its folder.")
@stack_option
@follow_option
@dry_run_option
@format_option
def resubmit(run: str, new: str | None, stack: str | None, follow: bool, dry_run: bool, form: str) -> int:
    """Train once more as RUN was trained last, by its record.

    The same packages, configuration, arguments and machines, as a run of its own; refused when packages or configuration have
    changed in the bucket.
    """
    from launcher import resubmit as room

    return room.resubmit(run, new, stack, follow, dry_run, form)


@odcloud.command("eval")
@click.option("--config", type=click.Path(path_type=Path), help="The evaluation's own job file, with one machine: the chief.")
@click.option("--run", metavar="RUN", help="The run to evaluate; by default the newest.")
@click.option("--explain", is_flag=True, help="Show each value of the job and where it comes from; send nothing.")
@program_options
@stack_option
@follow_option
@dry_run_option
@format_option
def evaluate(
    config: Path | None,
    run: str | None,
    explain: bool,
    stack: str | None,
    follow: bool,
    dry_run: bool,
    form: str,
    **flags: Any,
) -> int:
    """Evaluate a run's checkpoints on held-out images.

    Each value of the job is the flag's, else the environment's (as for train, so that ODCLOUD_IMAGE pins both; the module is
    ODCLOUD_EVAL_PYTHON_MODULE), else the job file's, else the stack's, else the default; --explain shows which.
    """
    from launcher import launch

    return launch.evaluate(config, run, stack, follow, dry_run, form, explain, flags)


@odcloud.command(short_help="Metrics, curves and detections of a run as one page.")
@click.option("--run", metavar="RUN", help="The run to report on; by default the newest.")
@stack_option
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Where to write; by default report/RUN.")
@format_option
def report(run: str | None, stack: str | None, output: Path | None, form: str) -> int:
    """Report on a run: table of metrics, curves, detections, one HTML page."""
    from launcher import report as room

    return room.report(run, stack, output, form)


@odcloud.command(short_help="Check what can be known before money is spent.")
@click.option("--config", type=click.Path(path_type=Path), help="The job file; without it what depends on the job is skipped.")
@click.option("--run", metavar="RUN", help="The run to go on with; by default a new one.")
@click.option("--orphans", is_flag=True, help="Show instead what stacks that are no more have left in the project.")
@job_options
@stack_option
@format_option
def doctor(config: Path | None, run: str | None, orphans: bool, stack: str | None, form: str, **flags: Any) -> int:
    """Check what can be known before money is spent; exit code 1 if a job would fail.

    Each check is ok, a warning, an error or skipped (the reason is told), and names the command that mends it.
    """
    if orphans:
        from launcher.doctor import orphans as left

        return left.orphans(stack, form)
    from launcher.doctor import command

    return command.doctor(config, run, stack, form, flags)


@odcloud.command(short_help="Show a run's curves in a TensorBoard on this machine.")
@click.option("--run", metavar="RUN", help="The run to show; by default the newest.")
@click.option("--port", type=click.IntRange(0, 65535), default=6006, metavar="PORT", help="Where to serve; 0: any free one.")
@stack_option
def tensorboard(run: str | None, port: int, stack: str | None) -> int:
    """Show a run's curves in a TensorBoard on this machine, as they grow.

    The events are copied from the bucket into a cache folder, and again whenever they have grown.
    """
    from launcher import tensorboard as room

    return room.tensorboard(run, port, stack)


@odcloud.command("open", short_help="Open a job's page in the browser.")
@click.argument("job", required=False)
@click.option("--print", "only_print", is_flag=True, help="Print the address and open nothing.")
@stack_option
def open_page(job: str | None, only_print: bool, stack: str | None) -> int:
    """Open a job's page in the browser: Google's console, or the page of the service in its place.

    JOB may be one of ML Engine, too, where there is such a service. Without JOB the page of all jobs.
    """
    from launcher import page

    return page.open_page(job, only_print, stack)


@odcloud.group()
def jobs() -> None:
    """List, show, read, await, cancel and delete jobs.

    JOB is a job's number, its name, or a run's id, which means the run's newest training.
    """


@jobs.command("list")
@stack_option
@format_option
def jobs_list(stack: str | None, form: str) -> int:
    """List the jobs, the newest first."""
    from launcher import jobs as room

    return room.show_list(stack, form)


@jobs.command("show")
@click.argument("job")
@stack_option
@format_option
def jobs_show(job: str, stack: str | None, form: str) -> int:
    """Show a job and each of its replicas."""
    from launcher import jobs as room

    return room.show(job, stack, form)


@jobs.command("logs")
@click.argument("job")
@click.option("--replica", metavar="NAME", help="Only this one: chief, worker-0, ps-0, … or service.")
@click.option("--follow", is_flag=True, help="Go on until the job ends.")
@click.option("--since", metavar="TIME", help="From then on: 30s, 10m, 2h or 1d ago, or a time as 2030-01-31T12:00:00Z.")
@stack_option
@format_option
def jobs_logs(job: str, replica: str | None, follow: bool, since: str | None, stack: str | None, form: str) -> int:
    """Print a job's log; as JSON, one object per line."""
    from launcher import jobs as room

    return room.logs(job, replica, follow, since, stack, form)


@jobs.command("wait")
@click.argument("job")
@stack_option
@format_option
def jobs_wait(job: str, stack: str | None, form: str) -> int:
    """Wait for a job's end: exit code 0 if it succeeded, else 1."""
    from launcher import jobs as room

    return room.wait(job, stack, form)


@jobs.command("cancel")
@click.argument("job")
@click.option("--wait/--no-wait", "wait_for_end", default=True, help="Wait until the job has ended.")
@stack_option
@format_option
def jobs_cancel(job: str, wait_for_end: bool, stack: str | None, form: str) -> int:
    """Cancel a job."""
    from launcher import jobs as room

    return room.cancel(job, wait_for_end, stack, form)


@jobs.command("delete")
@click.argument("job", nargs=-1, required=True)
@stack_option
@format_option
def jobs_delete(job: tuple[str, ...], stack: str | None, form: str) -> int:
    """Delete jobs that have ended; what they left in the bucket stays."""
    from launcher import jobs as room

    return room.delete(job, stack, form)


def _image_options(command: _Command) -> _Command:
    """What decides an image's content and name: the same for each command, for the tag is made of it."""
    options = (
        click.option("--repository", metavar="HOST/PATH", help="Where images go; by default the stack's repository."),
        click.option("--base-image", metavar="IMAGE", help="What the image stands on; by default the Dockerfile's, for CPUs."),
        click.option("--ca-file", type=click.Path(path_type=Path), help="More certificates to trust in the image (PEM)."),
        stack_option,
        format_option,
    )
    return _with(options, command)


@odcloud.group()
def image() -> None:
    """Build, push and pin the trainer's container image.

    Its tag is a hash of what goes in. `imageUri: IMAGE@sha256:…` in a job file makes a job of it.
    """


@image.command("build")
@_image_options
@click.option(
    "--builder",
    type=click.Choice(["docker", "cloud-build"]),
    default="docker",
    help="Who builds: your Docker engine or Google.",
)
@click.option("--network", metavar="NAME", help="The network that the build's steps use, e.g. host (docker only).")
@click.option("--dry-run", is_flag=True, help="Print the request to Cloud Build and send nothing.")
def image_build(
    repository: str | None,
    base_image: str | None,
    ca_file: Path | None,
    stack: str | None,
    form: str,
    builder: str,
    network: str | None,
    dry_run: bool,
) -> int:
    """Build the image, unless it is there; Cloud Build pushes it, too."""
    from launcher import image as room

    return room.build(repository, stack, builder, base_image, ca_file, network, dry_run, form)


@image.command("push")
@_image_options
def image_push(repository: str | None, base_image: str | None, ca_file: Path | None, stack: str | None, form: str) -> int:
    """Push the image that was built, and print it with its digest."""
    from launcher import image as room

    return room.push(repository, stack, base_image, ca_file, form)


@image.command("digest")
@_image_options
def image_digest(repository: str | None, base_image: str | None, ca_file: Path | None, stack: str | None, form: str) -> int:
    """Print the pushed image with its digest, as the registry knows it."""
    from launcher import image as room

    return room.show_digest(repository, stack, base_image, ca_file, form)


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
    except Exception as error:
        # Imported here, for it is needed by those commands only that talk to Google and then is there already.
        from launcher.google import GoogleError

        if not isinstance(error, GoogleError):
            raise
        code = _fail(str(error))
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> int:
    click.echo(f"odcloud: error: {message}", err=True)
    return 2


if __name__ == "__main__":
    main()
