"""Trains a detector: `python -m trainer.train --train_dir=DIR --pipeline_config_path=FILE`.

Each replica of a job runs this same command; TF_CONFIG says which one it is. Alone, it trains by itself.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from trainer import arguments, files, paths, runtime
from trainer.config import experiment as configuration
from trainer.config.experiment import Experiment
from trainer.config.inputs import Reader
from trainer.data import label_map, records
from trainer.errors import InputError
from trainer.progress import Progress, duration, log
from trainer.training import gpus, server
from trainer.training.cluster import CHIEF, Cluster, from_environment
from trainer.training.finish import FAILED, FINISHED, FinishMarker
from trainer.training.stopping import Stop
from trainer.training.watchdog import Watchdog

# 128 + SIGTERM: whoever runs the job may start the replica again, and training goes on.
STOPPED_EXIT_CODE = 143
_CONNECT_SECONDS = 15 * 60.0
# A chief that lost the variables starts itself again; this variable counts, so that it does not do so for ever.
_RESTARTS = "TRAINER_RESTARTS"
_MAX_RESTARTS = 5
# So much of the data is read before training: a bucket's mount gives some 100 MB a second.
_CHECKED_BYTES = 500e6


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The old page's flags. Raises InputError on anything else."""
    parser = arguments.job_parser("trainer.train", "Train a detector.")
    parser.add_argument("--train_dir", required=True, help="where checkpoints and events go (a folder or gs:// URI)")
    parser.add_argument(
        "--stall_minutes",
        type=arguments.positive,
        default=10,
        metavar="M",
        help="when no step ends for so long say which replica does not answer; after twice as long start again (default 10)",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs this replica to its end; the exit code."""
    return arguments.run(lambda: _main(parse_arguments(sys.argv[1:] if argv is None else argv)))


def _main(options: argparse.Namespace) -> int:
    cluster = from_environment()
    runtime.prepare(replicas_here(cluster))
    train_dir = paths.resolve(options.train_dir)
    if cluster.role == CHIEF:
        return lead(cluster, train_dir, options)
    if cluster.synchronous:
        return accompany(cluster, train_dir, options)
    return server.serve(cluster, train_dir)


def replicas_here(cluster: Cluster) -> int:
    """How many replicas compute on this machine: they share its cores."""
    if cluster.alone:
        return 1
    host = cluster.addresses[cluster.role][cluster.index].rpartition(":")[0]
    computing = [*cluster.workers, cluster.chief] if cluster.synchronous else cluster.workers
    return max(1, sum(address.rpartition(":")[0] == host for address in computing))


@dataclass(frozen=True)
class Inputs:
    """What was found good before anything is started.

    train_files: of each of the input paths; further: of each further eval_input_reader, by its name.
    """

    experiment: Experiment
    train_files: list[list[str]]
    eval_files: list[str]
    further: Mapping[str, list[str]] = field(default_factory=dict)


def check_inputs(config_path: str, training: bool = True) -> Inputs:
    """Reads the configuration and checks what it names. Raises InputError; loads TensorFlow only for gs:// paths.

    training: False for an evaluation, which does not need the training data.
    """
    experiment = configuration.read(config_path)
    names = read_names(experiment.evaluation, experiment)
    if not training:  # it reads all of its data anyway
        further = {
            reader.name: records.check(reader.patterns, read_names(reader, experiment), decode=True).files
            for reader in experiment.further
        }
        return Inputs(experiment, [], records.check(experiment.evaluation.patterns, names, decode=True).files, further)
    eval_files = records.check(experiment.evaluation.patterns, names, most_bytes=_CHECKED_BYTES).files
    names = read_names(experiment.train, experiment)
    patterns = [[pattern] for pattern in experiment.train.patterns] if experiment.train.weights else [experiment.train.patterns]
    most_bytes = _CHECKED_BYTES / len(patterns)
    return Inputs(experiment, [records.check(group, names, most_bytes=most_bytes).files for group in patterns], eval_files)


def read_names(reader: Reader, experiment: Experiment) -> dict[int, str]:
    """The classes' names by number. Raises InputError when they are more than the model has."""
    names = dict(label_map.read(paths.resolve(reader.label_map)))
    if max(names) > experiment.classes:
        raise InputError(
            f"{reader.label_map}: id {max(names)} is above num_classes {experiment.classes} in {experiment.path}; "
            "raise num_classes, or number the classes from 1 on"
        )
    return names


def lead(cluster: Cluster, train_dir: str, options: argparse.Namespace) -> int:
    """The chief: checks everything that can be known, trains, and lets the other replicas end. The exit code."""
    try:
        code = _train(cluster, train_dir, check_inputs(options.pipeline_config_path), options.stall_minutes * 60)
    except Exception:
        _tell_others(cluster, train_dir, FAILED)
        raise
    if code == 0:
        _tell_others(cluster, train_dir, FINISHED)
    return code


def accompany(cluster: Cluster, train_dir: str, options: argparse.Namespace) -> int:
    """A worker of synchronous training: does every step together with the chief. The exit code.

    Ends at once when the chief has failed for good, which nothing else would tell it.
    """
    server.leave_when_failed(cluster, train_dir)
    return _train(cluster, train_dir, check_inputs(options.pipeline_config_path), options.stall_minutes * 60)


def _train(cluster: Cluster, train_dir: str, inputs: Inputs, stall_seconds: float) -> int:
    steps = inputs.experiment.steps
    runtime.suit_images(*inputs.experiment.task["model"]["input_size"][:2])
    with Progress(steps, silent=cluster.role != CHIEF) as progress:
        progress.phase("loading TensorFlow")
        # Modules, model and graphs are made to stay: to look again and again for garbage among them takes a tenth of the start.
        gc.disable()
        from trainer import garden
        from trainer.training import loop

        runtime.quiet_logging()
        gpus.warn_if_unseen()
        for note in inputs.experiment.approximations if cluster.role == CHIEF else ():
            log(f"{inputs.experiment.path}: line {note.line}: {note.sentence()}", "WARNING")
        done = loop.last_step(train_dir)
        if done >= steps:
            log(f"nothing to do: {train_dir} has a checkpoint of step {done}, and num_steps is {steps}", step=done)
            progress.update(done)
            return 0
        asked = Stop(train_dir).asked()
        if asked:
            log(f"nothing to do at step {done}: {asked}; to train on, remove {Stop(train_dir).path}", step=done)
            return 0
        if cluster.role == CHIEF:
            loop.copy_config(inputs.experiment, train_dir)
        others = [*cluster.workers, *cluster.servers]
        progress.phase(f"waiting for {len(others)} replicas")
        try:
            if cluster.servers:
                server.wait_for(others, _CONNECT_SECONDS)
        except TimeoutError as error:
            log(f"no answer from {error} for {duration(_CONNECT_SECONDS)}", "ERROR")
            return 1
        try:
            task = garden.build_task(inputs.experiment, inputs.train_files, inputs.eval_files)

            def give_up(reason: str) -> None:
                _start_again(loop.last_step(train_dir), reason)

            with Watchdog(stall_seconds, cluster.others(), give_up) as watchdog:
                run = loop.Training(inputs.experiment, cluster, task, train_dir, progress, watchdog)
                signal.signal(signal.SIGTERM, lambda *_: run.stop())
                run.run()
        except loop.StoppedError:
            log(f"stopped on request; the state is saved in {train_dir}", "WARNING")
            return STOPPED_EXIT_CODE
        except loop.BadDataError as error:
            raise _bad_record(inputs.experiment, str(error)) from error
        except loop.ClusterLostError as error:
            _start_again(loop.last_step(train_dir), str(error))
    return 0


def _bad_record(experiment: Experiment, said: str) -> InputError:
    """What is wrong with which record: TensorFlow, which could not read one, does not say."""
    log(f"a training record cannot be read ({said}): looking for it", "WARNING")
    try:
        records.check(experiment.train.patterns, read_names(experiment.train, experiment), decode=True)
    except InputError as error:
        return error
    return InputError(f"a training record cannot be read ({said}); write the training data again")


def _start_again(step: int, reason: str) -> NoReturn:
    """Replaces this process by a new one, which connects anew and resumes; gives up when that has not led any further.

    A new process, because TensorFlow cannot leave a cluster.
    """
    count, _, last_step = os.environ.get(_RESTARTS, "0:-1").partition(":")
    restarts = int(count) + 1 if step <= int(last_step) else 1
    if restarts > _MAX_RESTARTS:
        log(f"the connection to a replica is lost, {_MAX_RESTARTS} times since step {step}: {reason}", "ERROR")
        server.leave(1)
    log(f"a replica is lost; starting again from the checkpoint of step {step} ({reason})", "WARNING", step=step)
    os.environ[_RESTARTS] = f"{restarts}:{step}"
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _tell_others(cluster: Cluster, train_dir: str, outcome: str) -> None:
    if cluster.alone and not files.is_folder(train_dir):  # nobody else looks, and nothing was begun
        return
    try:
        FinishMarker(train_dir).write(outcome)
    except OSError as error:
        log(f"cannot tell the other replicas that training has {outcome}: {error}", "ERROR")


if __name__ == "__main__":
    server.leave(main())
