"""Commands on what goes into training and comes out of it: datasets, pipeline configurations, exported models."""

from __future__ import annotations

from pathlib import Path

import click

from launcher.commands.options import format_option, passed_on, stack_option


@click.group()
def data() -> None:
    """Make, fetch, convert, check and upload datasets."""


for _name, _text in (
    ("digits", "Make the digits dataset."),
    ("fetch", "Download Oxford-IIIT Pet or PASCAL VOC."),
    ("convert", "Convert Oxford-IIIT Pet, PASCAL VOC or COCO."),
):
    data.add_command(passed_on(_name, "trainer.data", _text, _name))


def _reads_buckets(name: str, text: str) -> None:
    """The same for a command whose arguments may be gs:// URIs, which are fetched for it."""

    @data.command(name, help=text, add_help_option=False, context_settings={"ignore_unknown_options": True})
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def command(arguments: tuple[str, ...]) -> int:
        from launcher.data import datafiles

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
    from launcher.data import push

    return push.push(folder, destination, stack, form)


@click.command(
    "config",
    help="Check, explain or convert a pipeline configuration.",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def pipeline_config(arguments: tuple[str, ...]) -> int:
    from launcher.data import datafiles

    return datafiles.with_fetched("trainer.config", arguments)


@click.command(short_help="Export a run's last checkpoint as a SavedModel.")
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
    from launcher.results import export as room

    return room.export(source, destination, label_map, stack, form)


@click.command(
    "predict",
    help="Detect objects in images with an exported model.",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def predict(arguments: tuple[str, ...]) -> int:
    from launcher.data import datafiles

    return datafiles.with_fetched("trainer.predict", arguments, below=True)
