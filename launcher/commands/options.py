"""The options that several commands have, and commands that other rooms take over."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import click

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True}

Decorated = Callable[..., Any]
"""What click's decorators take and return."""

stack_option = click.option("--stack", metavar="NAME", help="The Pulumi stack; by default the selected one.")
format_option = click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", help="Form of the result on stdout."
)
follow_option = click.option(
    "--follow/--detach", default=True, help="Follow the job to its end (Ctrl-C detaches), or return at once."
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Print the request's body as JSON and send nothing.")


def job_options(command: Decorated) -> Decorated:
    """The flags that go before a training's job file; their names are the keys of overrides.py."""
    sizes = (
        click.option("--workers", metavar="N", help="Number of workers."),
        click.option("--parameter-servers", metavar="N", help="Number of parameter servers."),
    )
    return combined(sizes, program_options(command))


def program_options(command: Decorated) -> Decorated:
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
    return combined(options, command)


def combined(options: tuple[Decorated, ...], command: Decorated) -> Decorated:
    """The command with all these options, which its help shows in this order."""
    for option in reversed(options):
        command = option(command)
    return command


def passed_on(name: str, module: str, text: str, *first: str) -> click.Command:
    """A command that another room's `python -m MODULE` takes over, arguments and all."""

    @click.command(name, help=text, add_help_option=False, context_settings={"ignore_unknown_options": True})
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def command(arguments: tuple[str, ...]) -> NoReturn:
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", module, *first, *arguments])

    return command
