"""Commands that show a run: its report, its curves, its page."""

from __future__ import annotations

from pathlib import Path

import click

from launcher.commands.options import format_option, stack_option


@click.command(short_help="Metrics, curves and detections of a run as one page.")
@click.option("--run", metavar="RUN", help="The run to report on; by default the newest.")
@stack_option
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Where to write; by default report/RUN.")
@format_option
def report(run: str | None, stack: str | None, output: Path | None, form: str) -> int:
    """Report on a run: table of metrics, curves, detections, one HTML page."""
    from launcher.results import report as room

    return room.report(run, stack, output, form)


@click.command(short_help="Show a run's curves in a TensorBoard on this machine.")
@click.option("--run", metavar="RUN", help="The run to show; by default the newest.")
@click.option("--port", type=click.IntRange(0, 65535), default=6006, metavar="PORT", help="Where to serve; 0: any free one.")
@stack_option
def tensorboard(run: str | None, port: int, stack: str | None) -> int:
    """Show a run's curves in a TensorBoard on this machine, as they grow.

    The events are copied from the bucket into a cache folder, and again whenever they have grown.
    """
    from launcher.results import tensorboard as room

    return room.tensorboard(run, port, stack)


@click.command("open", short_help="Open a job's page in the browser.")
@click.argument("job", required=False)
@click.option("--print", "only_print", is_flag=True, help="Print the address and open nothing.")
@stack_option
def open_page(job: str | None, only_print: bool, stack: str | None) -> int:
    """Open a job's page in the browser: Google's console, or the page of the service in its place.

    JOB may be one of ML Engine, too, where there is such a service. Without JOB the page of all jobs.
    """
    from launcher.jobs import page

    return page.open_page(job, only_print, stack)
