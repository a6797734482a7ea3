"""Commands on jobs."""

from __future__ import annotations

import click

from launcher.commands.options import format_option, stack_option


@click.group()
def jobs() -> None:
    """List, show, read, await, cancel and delete jobs.

    JOB is a job's number, its name, or a run's id, which means the run's newest training.
    """


@jobs.command("list")
@stack_option
@format_option
def jobs_list(stack: str | None, form: str) -> int:
    """List the jobs, the newest first."""
    from launcher.jobs import verbs as room

    return room.show_list(stack, form)


@jobs.command("show")
@click.argument("job")
@stack_option
@format_option
def jobs_show(job: str, stack: str | None, form: str) -> int:
    """Show a job and each of its replicas."""
    from launcher.jobs import verbs as room

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
    from launcher.jobs import verbs as room

    return room.logs(job, replica, follow, since, stack, form)


@jobs.command("wait")
@click.argument("job")
@stack_option
@format_option
def jobs_wait(job: str, stack: str | None, form: str) -> int:
    """Wait for a job's end: exit code 0 if it succeeded, else 1."""
    from launcher.jobs import verbs as room

    return room.wait(job, stack, form)


@jobs.command("cancel")
@click.argument("job")
@click.option("--wait/--no-wait", "wait_for_end", default=True, help="Wait until the job has ended.")
@stack_option
@format_option
def jobs_cancel(job: str, wait_for_end: bool, stack: str | None, form: str) -> int:
    """Cancel a job."""
    from launcher.jobs import verbs as room

    return room.cancel(job, wait_for_end, stack, form)


@jobs.command("delete")
@click.argument("job", nargs=-1, required=True)
@stack_option
@format_option
def jobs_delete(job: tuple[str, ...], stack: str | None, form: str) -> int:
    """Delete jobs that have ended; what they left in the bucket stays."""
    from launcher.jobs import verbs as room

    return room.delete(job, stack, form)
