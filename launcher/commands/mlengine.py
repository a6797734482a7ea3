"""`odcloud ml-engine …` and `odcloud ai-platform …`: gcloud's old command line, flag by flag; what they do: oldpage/verbs.py.

Flags and their meaning are those of `gcloud ai-platform jobs submit training`'s reference, and a few of odcloud's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import click

from launcher import mlengine
from launcher.commands.options import CONTEXT
from launcher.oldpage import verbs
from launcher.stack.place import Place

_Function = TypeVar("_Function", bound=Callable[..., Any])
_SAKE = "Taken for gcloud's sake; changes nothing."


class _Submit(click.Command):
    """Everything after the first `--` is the program's, whatever it looks like."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = args.index("--") if "--" in args else len(args)
        ctx.meta["program_args"] = tuple(args[own + 1 :])
        return super().parse_args(ctx, args[:own])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- PROGRAM_ARGS]..."]


class _Address(click.ParamType):
    """gs://BUCKET, or gs://BUCKET/FOLDER where there may be a folder"""

    name = "address"

    def __init__(self, folder: bool) -> None:
        self._folder = folder

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if not re.fullmatch(r"gs://[^/\s]+(/[^\r\n]*)?" if self._folder else r"(gs://)?[^/\s:]+/?", text):
            self.fail(f"{text!r}: must be gs://BUCKET{'/FOLDER' if self._folder else ''}", param, ctx)
        return f"{text}/" if self._folder and text.count("/") == 2 else text  # as gcloud writes a bucket


class _Labels(click.ParamType):
    """KEY=VALUE,KEY=VALUE"""

    name = "labels"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[tuple[str, str]]:
        pairs = []
        for item in filter(None, str(value).split(",")):
            key, equals, text = item.partition("=")
            if not equals:
                self.fail(f"{value!r}: write KEY=VALUE,KEY=VALUE", param, ctx)
            if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", key) or not re.fullmatch(r"[a-z0-9_-]{0,63}", text):
                said = "at most 63 lower-case letters, digits, _ and -, and the key begins with a letter"
                self.fail(f"{item}: {said}", param, ctx)
            pairs.append((key, text))
        return pairs


class _Accelerator(click.ParamType):
    """count=N,type=TYPE as ML Engine's AcceleratorConfig"""

    name = "accelerators"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, str]:
        if isinstance(value, dict):
            return value
        fields = dict(item.partition("=")[::2] for item in str(value).split(","))
        if not set(fields) <= {"count", "type"} or not fields.get("type"):
            self.fail(f"{value!r}: write count=1,type=nvidia-tesla-t4", param, ctx)
        count = fields.get("count", "1")
        if not re.fullmatch(r"[1-9][0-9]{0,3}", count):
            self.fail(f"{value!r}: count must be a whole number from 1 on", param, ctx)
        return {"count": count, "type": fields["type"].upper().replace("-", "_")}


class _Tier(click.ParamType):
    """A scale tier in gcloud's two spellings: basic-gpu and BASIC_GPU"""

    name = "TIER"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from launcher.jobfile import machines

        tier, tiers = str(value).upper().replace("-", "_"), machines.mapping()["scaleTiers"]
        if tier not in tiers:
            self.fail(f"{value!r} is not one of {', '.join(tiers)}", param, ctx)
        return tier


class _Form(click.ParamType):
    """A form of the result, in gcloud's words"""

    name = "FORM"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from launcher.oldpage import shape

        if value not in shape.WORDS and shape.keys(str(value)) is None:
            self.fail(f"{value!r} is none of text, json, yaml and value(FIELD,…), for example value(state)", param, ctx)
        return str(value)


def _places(function: _Function) -> _Function:
    for option in (
        click.option("--stack", metavar="NAME", help="The Pulumi stack to ask for what flags and environment do not say."),
        click.option("--verbosity", metavar="LEVEL", expose_value=False, help=_SAKE),
        click.option("-q", "--quiet", is_flag=True, expose_value=False, help="Taken for gcloud's sake; nothing is ever asked."),
        click.option("--region", metavar="REGION", help="Where the jobs run, for example us-central1."),
        click.option("--project", metavar="PROJECT", help="The Google Cloud project; by default as for gcloud."),
    ):
        function = option(function)
    return function


_format = click.option("--format", "form", type=_Form(), default="text", help="text, json, yaml or value(FIELD,…).")


@click.group(context_settings=CONTEXT)
def group() -> None:
    """ML Engine's commands, on the service of today."""


@group.group()
def jobs() -> None:
    """Submit, list, describe and cancel jobs."""


@jobs.group()
def submit() -> None:
    """Submit a job."""


@submit.command(cls=_Submit)
@click.argument("name", metavar="JOB")
@_places
@click.option(
    "--job-dir",
    type=_Address(folder=True),
    metavar="gs://…",
    help="Where the job writes: base output directory, and --job-dir of the program.",
)
@click.option("--packages", metavar="FILE,…", help="Packages of this machine, or gs://; uploaded by content, none twice.")
@click.option(
    "--package-path", type=click.Path(path_type=Path), metavar="DIR", help="A package's folder, to be built and uploaded."
)
@click.option("--module-name", metavar="MODULE", help="The Python module to run.")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="ML Engine's YAML; flags win over it.")
@click.option("--runtime-version", metavar="VERSION", help="ML Engine's runtime; today's image for it is used, and told.")
@click.option("--python-version", metavar="VERSION", help="ML Engine's Python; the image decides today.")
@click.option("--scale-tier", type=_Tier(), help="BASIC, STANDARD_1, PREMIUM_1, BASIC_GPU, BASIC_TPU or CUSTOM.")
@click.option("--master-machine-type", metavar="TYPE", help="Machine type of the chief: standard_gpu, n1-standard-8, …")
@click.option("--master-accelerator", type=_Accelerator(), metavar="count=N,type=TYPE", help="Accelerators of the chief.")
@click.option("--master-image-uri", metavar="IMAGE", help="The chief's container, instead of packages.")
@click.option("--worker-machine-type", metavar="TYPE", help="Machine type of each worker: standard_gpu, n1-standard-8, …")
@click.option("--worker-count", type=click.IntRange(min=0), metavar="N", help="Number of workers.")
@click.option("--worker-accelerator", type=_Accelerator(), metavar="count=N,type=TYPE", help="Accelerators of each worker.")
@click.option("--worker-image-uri", metavar="IMAGE", help="The container of each worker; by default the chief's.")
@click.option(
    "--parameter-server-machine-type",
    metavar="TYPE",
    help="Machine type of each parameter server: standard_gpu, n1-standard-8, …",
)
@click.option("--parameter-server-count", type=click.IntRange(min=0), metavar="N", help="Number of parameter servers.")
@click.option(
    "--parameter-server-accelerator",
    type=_Accelerator(),
    metavar="count=N,type=TYPE",
    help="Accelerators of each parameter server.",
)
@click.option(
    "--parameter-server-image-uri", metavar="IMAGE", help="The container of each parameter server; by default the chief's."
)
@click.option(
    "--staging-bucket",
    type=_Address(folder=False),
    metavar="gs://BUCKET",
    help="Where packages go; by default --job-dir's, else the stack's bucket.",
)
@click.option("--labels", type=_Labels(), multiple=True, metavar="KEY=VALUE,…", help="Labels of the job; may be repeated.")
@click.option("--service-account", metavar="EMAIL", help="The account that the job runs as.")
@click.option("--network", metavar="NETWORK", help="The VPC network that the job is peered to.")
@click.option("--enable-web-access/--no-enable-web-access", default=None, help="Allow interactive shells into the replicas.")
@click.option("--kms-key", metavar="KEY", help="The Cloud KMS key that encrypts the job: its full name, or its id and these:")
@click.option("--kms-keyring", metavar="RING", help="The key's ring.")
@click.option("--kms-location", metavar="REGION", help="The key's location.")
@click.option("--kms-project", metavar="PROJECT", help="The key's project; by default the job's.")
@click.option("--use-chief-in-tf-config", type=bool, metavar="BOOL", help="No effect: it is chief today, always.")
@click.option("--async", "asynchronous", is_flag=True, help="Return when the job is submitted (the default).")
@click.option("--stream-logs", is_flag=True, help="Show the log until the job ends; the exit code tells its result.")
@click.option(
    "--engine",
    type=click.Choice(["vertex", "ml-engine"]),
    default="vertex",
    help="Whose request to print; ml-engine only with --dry-run.",
)
@_format
@click.option("--dry-run", is_flag=True, help="Print the request's body as JSON; upload and send nothing.")
@click.option("--executor-image-uri", metavar="IMAGE", help="The image that runs the packages, instead of the mapping's.")
@click.option("--keep-retired", is_flag=True, help="Ask for withdrawn accelerators all the same, for Google to judge.")
@click.option("--any-machine-type", is_flag=True, help="Pass on machine types that are not known here, for Google to judge.")
@click.pass_context
def training(ctx: click.Context, /, **given: Any) -> int:
    """Submit a training job. What follows `--` is handed to the program, unchanged and in order."""
    if given["asynchronous"] and given["stream_logs"]:
        raise click.UsageError("--async and --stream-logs exclude each other", ctx)
    given["kms_key"] = _key(ctx, given)
    flags: dict[str, Any] = {}
    for field, flag in mlengine.FLAGS.items():
        value = given[flag.removeprefix("--").replace("-", "_")]
        flags[f"trainingInput.{field}"] = str(value) if isinstance(value, int) and field.endswith("Count") else value
    return verbs.submit(
        verbs.Submission(
            command=_command(ctx),
            name=given["name"],
            args=ctx.meta["program_args"],
            flags={**flags, "labels": _labels(ctx, given["labels"])},
            config=given["config"],
            package_path=given["package_path"],
            packages=[name for name in (given["packages"] or "").split(",") if name],
            project=given["project"],
            region=given["region"],
            staging_bucket=given["staging_bucket"],
            stack=given["stack"],
            choices=mlengine.Choices(given["executor_image_uri"], given["keep_retired"], given["any_machine_type"]),
            engine=given["engine"],
            dry_run=given["dry_run"],
            stream_logs=given["stream_logs"],
            form=given["form"],
        )
    )


def _labels(ctx: click.Context, given: Sequence[list[tuple[str, str]]]) -> dict[str, str] | None:
    """What all `--labels` say together."""
    found: dict[str, str] = {}
    for key, text in chain.from_iterable(given):
        if key in found:
            raise click.UsageError(f"--labels: {key} is given twice, as {found[key]} and {text}", ctx)
        found[key] = text
    return found if given else None


def _key(ctx: click.Context, given: Mapping[str, Any]) -> str | None:
    """The full name of the key that the flags name."""
    key, ring, location = given["kms_key"], given["kms_keyring"], given["kms_location"]
    if re.fullmatch(r"projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+", key or ""):
        return str(key)
    if not (key or ring or location or given["kms_project"]):
        return None
    if not (key and ring and location) or "/" in key:
        full = "projects/PROJECT/locations/REGION/keyRings/RING/cryptoKeys/KEY"
        raise click.UsageError(f"--kms-key: give {full}, or the key's id with --kms-keyring and --kms-location", ctx)
    project = given["kms_project"] or Place.of(given["project"], None, (), given["stack"]).need("project")
    return f"projects/{project}/locations/{location}/keyRings/{ring}/cryptoKeys/{key}"


def _command(ctx: click.Context) -> str:
    return ctx.find_root().info_name or "odcloud ml-engine"


@jobs.command("list")
@_places
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many.")
@click.option("--page-size", type=click.IntRange(min=1), expose_value=False, metavar="N", help=_SAKE)
@_format
def list_jobs(project: str | None, region: str | None, stack: str | None, limit: int | None, form: str) -> int:
    """List the jobs, the newest first."""
    return verbs.show_list(Place.of(project, region, (), stack), form, limit)


@jobs.command()
@click.argument("name", metavar="JOB")
@_places
@_format
def describe(name: str, project: str | None, region: str | None, stack: str | None, form: str) -> int:
    """Describe a job and its replicas."""
    return verbs.describe(Place.of(project, region, (), stack), name, form)


@jobs.command()
@click.argument("name", metavar="JOB")
@_places
def cancel(name: str, project: str | None, region: str | None, stack: str | None) -> int:
    """Cancel a job."""
    return verbs.cancel(Place.of(project, region, (), stack), name)


@jobs.command("stream-logs")
@click.argument("name", metavar="JOB")
@_places
@click.option("--polling-interval", type=click.IntRange(min=1), expose_value=False, metavar="N", help=_SAKE)
@click.option("--allow-multiline-logs", is_flag=True, expose_value=False, help=_SAKE)
@click.option("--task-name", metavar="NAME", help="Only this replica: master-replica-0 (or chief), worker-replica-1, …")
def stream_logs(name: str, project: str | None, region: str | None, stack: str | None, task_name: str | None) -> int:
    """Show a job's log until it ends; the exit code tells its result."""
    return verbs.stream_logs(Place.of(project, region, (), stack), name, task_name)
