"""Where each value of a job comes from: flag > environment > job file > stack output > default.

Flags and environment are in the job already when it comes here (overrides.py); `JobFile.places` knows who said what. The rows
that `--explain` shows are made by the same choice that makes the job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from launcher.errors import UserError
from launcher.job import Container, EvaluationJob, PythonPackage, Scheduling, TrainingJob, evaluation_name
from launcher.jobfile import checks, machines
from launcher.stack.lookup import module

if TYPE_CHECKING:
    from infra.outputs import StackOutputs
    from launcher.job import Pool, Program
    from launcher.jobfile.models import ProgramFields, WorkerPool
    from launcher.jobfile.reading import JobFile

SCHEDULING_DEFAULTS = {
    "strategy": "STANDARD",
    "timeout": "604800s",
    "restartJobOnWorkerRestart": False,
    "disableRetries": False,
}
_PROGRAM = ("imageUri", "command", "executorImageUri", "packageUris", "pythonModule", "args", "env")


@dataclass(frozen=True)
class Row:
    """One value of a job and who set it. `value` None: left to the service."""

    name: str
    value: Any
    source: str


_JobType = TypeVar("_JobType", TrainingJob, EvaluationJob)


@dataclass(frozen=True)
class Resolved(Generic[_JobType]):
    """A job, its pipeline configuration, and the rows of --explain."""

    job: _JobType
    pipeline_config: str
    rows: tuple[Row, ...]


@dataclass
class _Choice:
    """Chooses values, noting each."""

    file: JobFile
    rows: list[Row] = field(default_factory=list)

    def note(self, name: str, value: Any, source: str) -> None:
        self.rows.append(Row(name, value, source))

    def of(self, *location: Any, given: Any, output: tuple[str, Any] | None = None, default: Any = None) -> Any:
        """The given value, else the stack's output (its name and value), else the default."""
        name = _name(location)
        if given is not None:
            self.note(name, given, source(self.file, *location) or "default")
            return given
        if output is not None:
            self.note(name, output[1], f"stack output {output[0]}")
            return output[1]
        self.note(name, default, "default")
        return default


def source(file: JobFile, *location: Any) -> str | None:
    """Who set a field: `flag --timeout`, `environment ODCLOUD_TIMEOUT`, `job file job.yaml:12`; None when nobody did."""
    place = file.place(*location)
    if place is None:
        return None
    if place.startswith("--"):
        return f"flag {place}"
    if place.startswith("$"):
        return f"environment {place[1:]}"
    return f"job file {place.rpartition(': ')[0]}"


@dataclass(frozen=True)
class _Task:
    """What training and evaluation differ in: the module, the folder for results, and the arguments that odcloud sets."""

    kind: str
    outputs: StackOutputs
    folder: str
    leading: tuple[str, ...]

    @property
    def module(self) -> str:
        """The stack's module. Raises UserError when it names none."""
        return module(self.outputs, self.kind)

    @property
    def command(self) -> tuple[str, ...]:
        """What an image of one's own starts when the job does not say: its entry point, (), is training's."""
        return ("python", "-m", self.module) if self.kind == "eval" else ()

    def arguments(self, own: Sequence[str], config: str) -> tuple[str, ...]:
        """A program's arguments: odcloud's and the configuration before its own."""
        if checks.pipeline_config(own) is None:
            return (*self.leading, f"--pipeline_config_path={config}", *own)
        return (*self.leading, *own)


def training(outputs: StackOutputs, file: JobFile, run: str) -> Resolved[TrainingJob]:
    """The training job of a run. Raises UserError."""
    folder = f"{outputs.train_dir}/{run}"
    task = _Task("train", outputs, folder, (f"--train_dir={folder}",))
    return _resolved(TrainingJob, file, run, run, task)


def evaluation(outputs: StackOutputs, file: JobFile, run: str) -> Resolved[EvaluationJob]:
    """The job that evaluates a run's checkpoints, on one machine. Raises UserError."""
    for index, pool in enumerate(file.job.workerPools or ()):
        if pool.role != "chief":
            raise UserError(
                f"{file.place('workerPools', index)}: an evaluation runs on one machine, the chief; remove this pool, "
                "or give the evaluation a job file of its own"
            )
    folder = f"{outputs.eval_dir}/{run}"
    leading = (f"--checkpoint_dir={outputs.train_dir}/{run}", f"--eval_dir={folder}")
    for holder in (file.job, *(file.job.workerPools or ())):
        for arg in holder.args or ():
            if arg.partition("=")[0] in ("--checkpoint_dir", "--eval_dir"):
                raise UserError(f"{file.place('args') or file.name}: {arg.partition('=')[0]} is the run's own; remove it")
    task = _Task("eval", outputs, folder, leading)
    return _resolved(EvaluationJob, file, run, evaluation_name(run), task)


def _resolved(kind: type[_JobType], file: JobFile, run: str, display_name: str, task: _Task) -> Resolved[_JobType]:
    given, outputs, choice = file.job, task.outputs, _Choice(file)
    choice.note("run", run, "--run, or the time")
    region = choice.of("region", given=given.region, output=("region", outputs.region))
    if region != outputs.region:
        raise UserError(
            f"{file.place('region')}: the region is {region}, but the stack's bucket and jobs are in {outputs.region}; "
            "remove it, or set the stack's `region`"
        )
    if given.tensorboard and f"/locations/{region}/" not in given.tensorboard:
        raise UserError(f"{file.place('tensorboard')}: the TensorBoard must be in the job's region, {region}")
    for index, pool in enumerate(file.pools):
        _explain_pool(choice, file, index, pool.role)
    own = checks.pipeline_config(given.args)
    if own is None:
        config = choice.of(
            "pipelineConfigPath",
            given=given.pipelineConfigPath,
            output=("pipeline_config_path", outputs.pipeline_config_path),
        )
    else:
        config = own
        choice.note("pipelineConfigPath", own, f"{source(file, 'args')} (args)")
    program = _program(choice, given, task, config)
    pools = tuple(replace(pool, program=_fitting(choice, pool, program, task, config)) for pool in file.pools)
    timing = {
        name: choice.of("scheduling", name, given=getattr(given.scheduling, name), default=None)
        for name in ("strategy", "timeout", "restartJobOnWorkerRestart", "disableRetries", "maxWaitDuration")
    }
    if given.anyMachineType is not None:
        choice.of("anyMachineType", given=given.anyMachineType)
    job = kind(
        run=run,
        display_name=display_name,
        region=region,
        pools=pools,
        program=program,
        output_uri=choice.of("baseOutputDirectory", given=given.baseOutputDirectory, default=task.folder),
        service_account=choice.of(
            "serviceAccount", given=given.serviceAccount, output=("service_account", outputs.service_account)
        ),
        labels=_labels(choice, outputs.labels, given.labels),
        scheduling=Scheduling(
            timeout=timing["timeout"],
            strategy=timing["strategy"],
            restart_job_on_worker_restart=timing["restartJobOnWorkerRestart"],
            disable_retries=timing["disableRetries"],
            max_wait_duration=timing["maxWaitDuration"],
        ),
        network=choice.of("network", given=given.network),
        tensorboard=choice.of("tensorboard", given=given.tensorboard),
        enable_web_access=choice.of("enableWebAccess", given=given.enableWebAccess),
        kms_key=choice.of("kmsKeyName", given=given.kmsKeyName),
    )
    return Resolved(job, config, tuple(choice.rows))


def _labels(choice: _Choice, stack: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    both = {**stack, **own}
    for key in both:
        choice.of("labels", key, given=own.get(key), output=("labels", stack.get(key)))
    return both


def _program(choice: _Choice, given: ProgramFields, task: _Task, config: str) -> Program:
    """What replicas run whose pool says nothing else."""
    if given.imageUri:
        image = choice.of("imageUri", given=given.imageUri)
        command = choice.of("command", given=given.command, default=() if given.command else task.command)
        return Container(image, command, *_args(choice, given, task, config))
    outputs = task.outputs
    executor = choice.of(
        "executorImageUri", given=given.executorImageUri, output=("executor_image_uri", outputs.executor_image_uri)
    )
    packages = choice.of("packageUris", given=given.packageUris, output=("package_uris", tuple(outputs.package_uris)))
    stacks = None if given.pythonModule else ("python_modules", task.module)
    name = choice.of("pythonModule", given=given.pythonModule, output=stacks)
    return PythonPackage(executor, tuple(packages), name, *_args(choice, given, task, config))


def _args(choice: _Choice, given: ProgramFields, task: _Task, config: str) -> tuple[tuple[str, ...], dict[str, str]]:
    own = choice.of("args", given=given.args, default=())
    env = choice.of("env", given=given.env, default={})
    return task.arguments(own, config), dict(env)


def _fitting(choice: _Choice, pool: Pool, program: Program, task: _Task, config: str) -> Program | None:
    """As `_pool_program`, in an image that sees the pool's accelerators, if nobody but the stack chose one."""
    given = next((one for one in choice.file.job.workerPools or () if one.role == pool.role), None)
    own = _pool_program(choice.file, given, program, task, config)
    runs = own or program
    if isinstance(runs, Container) or choice.file.job.executorImageUri or (given and given.executorImageUri):
        return own
    image = machines.fitting(runs.executor_image_uri, pool.machine)
    if image == runs.executor_image_uri:
        return own
    why = f"default for {pool.machine.accelerator_type}, in place of the stack's for CPUs"
    choice.note(f"{pool.role}.executorImageUri", image, why)
    return replace(runs, executor_image_uri=image)


def _pool_program(file: JobFile, pool: WorkerPool | None, program: Program, task: _Task, config: str) -> Program | None:
    """What a pool runs in the place of the job's program; None when it says nothing of that."""
    if pool is None or all(getattr(pool, name) is None for name in _PROGRAM):
        return None
    job = file.job
    args = task.arguments(pool.args if pool.args is not None else job.args or (), config)
    env = dict(pool.env if pool.env is not None else job.env or {})
    if pool.imageUri:
        return Container(pool.imageUri, pool.command or task.command, args, env)
    if isinstance(program, Container) and not (pool.executorImageUri or pool.packageUris or pool.pythonModule):
        return Container(program.image_uri, pool.command or program.command, args, env)
    return PythonPackage(
        pool.executorImageUri or job.executorImageUri or task.outputs.executor_image_uri,
        tuple(pool.packageUris or job.packageUris or task.outputs.package_uris),
        pool.pythonModule or job.pythonModule or task.module,
        args,
        env,
    )


def _explain_pool(choice: _Choice, file: JobFile, index: int, role: str) -> None:
    pool, made = file.pools[index], file.job.workerPools or ()
    at = next((number for number, given in enumerate(made) if given.role == role), None)
    if at is None:
        choice.note(f"{role}.machineType", pool.machine.machine_type, "default")
        choice.note(f"{role}.replicaCount", pool.count, "default")
        return
    here, given = ("workerPools", at), made[at]

    def who(name: str) -> str:
        return source(file, *here, name) or "default"

    choice.note(f"{role}.machineType", pool.machine.machine_type, who("machineType"))
    choice.note(f"{role}.replicaCount", pool.count, who("replicaCount"))
    if pool.machine.accelerator_type:
        by = who("acceleratorType" if given.acceleratorType else "machineType")
        choice.note(f"{role}.acceleratorType", pool.machine.accelerator_type, by)
        choice.note(f"{role}.acceleratorCount", pool.machine.accelerator_count, by)
    for name in ("bootDiskType", "bootDiskSizeGb", "reservationAffinity", *_PROGRAM):
        value = getattr(given, name)
        if value is not None:
            choice.note(f"{role}.{name}", value, who(name))


def _name(location: Sequence[Any]) -> str:
    return ".".join(str(part) for part in location)


def table(rows: Sequence[Row]) -> str:
    """The rows for a terminal."""
    texts = [(row.name, _shown(row), row.source) for row in rows]
    widths = [max(len(text[column]) for text in texts) for column in (0, 1)]
    widths[1] = min(widths[1], 70)
    return "\n".join(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {source}".rstrip() for name, value, source in texts)


def facts(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as JSON values."""
    return [{"name": row.name, "value": _plain(row.value), "source": row.source} for row in rows]


def _shown(row: Row) -> str:
    value = row.value
    if value is None:
        default = SCHEDULING_DEFAULTS.get(row.name.partition(".")[2])
        return "-" if default is None else f"- (Vertex AI's: {_text(default)})"
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return " ".join(value) or "(none)"
    if isinstance(value, dict):
        return " ".join(f"{key}={item}" for key, item in value.items()) or "(none)"
    return _text(_plain(value)) if hasattr(value, "model_dump") else str(value)


def _plain(value: Any) -> Any:
    return value.model_dump(exclude_none=True) if hasattr(value, "model_dump") else value
