"""Commands on the trainer's container image."""

from __future__ import annotations

from pathlib import Path

import click

from launcher.commands.options import Decorated, combined, format_option, stack_option


def _options(command: Decorated) -> Decorated:
    """What decides an image's content and name: the same for each command, for the tag is made of it."""
    options = (
        click.option("--repository", metavar="HOST/PATH", help="Where images go; by default the stack's repository."),
        click.option("--base-image", metavar="IMAGE", help="What the image stands on; by default the Dockerfile's, for CPUs."),
        click.option("--ca-file", type=click.Path(path_type=Path), help="More certificates to trust in the image (PEM)."),
        stack_option,
        format_option,
    )
    return combined(options, command)


@click.group()
def image() -> None:
    """Build, push and pin the trainer's container image.

    Its tag is a hash of what goes in. `imageUri: IMAGE@sha256:…` in a job file makes a job of it.
    """


@image.command("build")
@_options
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
    from launcher.image import verbs as room

    return room.build(repository, stack, builder, base_image, ca_file, network, dry_run, form)


@image.command("push")
@_options
def image_push(repository: str | None, base_image: str | None, ca_file: Path | None, stack: str | None, form: str) -> int:
    """Push the image that was built, and print it with its digest."""
    from launcher.image import verbs as room

    return room.push(repository, stack, base_image, ca_file, form)


@image.command("digest")
@_options
def image_digest(repository: str | None, base_image: str | None, ca_file: Path | None, stack: str | None, form: str) -> int:
    """Print the pushed image with its digest, as the registry knows it."""
    from launcher.image import verbs as room

    return room.show_digest(repository, stack, base_image, ca_file, form)
