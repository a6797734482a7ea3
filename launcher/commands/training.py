"""Commands that launch training and evaluation, or price it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from launcher.commands.options import dry_run_option, follow_option, format_option, job_options, program_options, stack_option


@click.command(short_help="Launch a run's training, or follow the one under way.")
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

    Each value of the job is the flag's, else the environment's (ODCLOUD_ and the flag's name: ODCLOUD_WORKERS; for labels there
    is none), else the job file's, else the stack's, else the default; --explain shows which.
    """
    from launcher.launch import training

    fallback = [region.strip() for region in (fallback_regions or "").split(",") if region.strip()]
    return training.train(
        config,
        run,
        stack,
        follow=follow,
        dry_run=dry_run,
        form=form,
        max_cost=max_cost,
        fallback=fallback,
        scale_lr=scale_lr,
        explain=explain,
        flags=flags,
    )


@click.command(short_help="Price a training job.")
@click.option("--config", type=click.Path(path_type=Path), required=True, help="The job file.")
@click.option(
    "--hours", type=float, metavar="H", help="Price of so many hours; by default of the job's timeout, if it has one."
)
@job_options
@stack_option
@format_option
def cost(config: Path, hours: float | None, stack: str | None, form: str, **flags: Any) -> int:
    """Price a training job: machines, accelerators and disks, by Google's catalogue or by a dated table."""
    from launcher.cost import quote

    return quote.quote(config, hours, stack, form, flags)


@click.command()
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
    from launcher.launch import resubmit as room

    return room.resubmit(run, new, stack, follow, dry_run, form)


@click.command("eval")
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
    from launcher.launch import training

    return training.evaluate(config, run, stack, follow=follow, dry_run=dry_run, form=form, explain=explain, flags=flags)
