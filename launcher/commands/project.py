"""Commands that make a stack and check what can be known of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from launcher.commands.options import format_option, job_options, stack_option


@click.command(short_help="Make a stack: write Pulumi.STACK.yaml from a few answers.")
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
    from launcher.stack import init as command

    keys = {"project": "gcp:project", "region": "gcp:region", "on_destroy": "odcloud:onDestroy", "data_dir": "odcloud:dataDir"}
    keys |= {"pipeline_config": "odcloud:pipelineConfig", "github_repository": "odcloud:githubRepository"}
    return command.init(stack, {keys[name]: value for name, value in answers.items()}, form)


@click.command(short_help="Check what can be known before money is spent.")
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
