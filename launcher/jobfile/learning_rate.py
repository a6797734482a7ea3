"""The learning rate held against the number of workers, and a pipeline configuration with a scaled one.

Workers under a parameter server push gradients one by one, each computed on variables that the others have changed since,
so that n workers move the variables about n times as far in the time of one step. The old page says to decrease the rate with
more workers; where to begin is the linear rule: a rate that was right for one worker, divided by n. Without parameter servers
chief and workers take each step together on one batch, and the rate is the batch's, however many they are.

The trainer reads nothing but its pipeline configuration, so `--scale-lr` writes a changed copy of that, named after its
content beside the stack's own (gs://BUCKET/config/HASH/pipeline.config). Only the numbers of rates in train_config.optimizer
change; all else, comments too, stays byte for byte.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.errors import UserError

if TYPE_CHECKING:
    from launcher.jobfile.reading import JobFile
    from launcher.stack.session import Session

# The scalar rates of object_detection/protos/optimizer.proto. The first group is what a schedule runs at its highest.
_PEAK = ("learning_rate", "initial_learning_rate", "learning_rate_base")
_RATES = (*_PEAK, "warmup_learning_rate", "burnin_learning_rate", "min_learning_rate")
_TOKEN = re.compile(
    r"""(?P<skip>\s+|\#[^\n]*|[,;])"""
    r"""|(?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')"""
    r"""|(?P<open>[{<])|(?P<close>[}>])|(?P<colon>:)"""
    r"""|(?P<word>[^\s\#,;"'{}<>:]+)"""
    r"""|(?P<other>.)""",
    re.DOTALL,
)
_NUMBER = re.compile(r"[+]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?[fF]?")


@dataclass(frozen=True)
class Rate:
    """A rate in a configuration's text: its field, its value, where its number stands."""

    field: str
    value: float
    start: int
    end: int


def rates(text: str) -> Iterator[Rate]:
    """The rates written in train_config.optimizer of a pipeline configuration (protobuf's text format)."""
    path: list[str] = []
    name = ""
    after_colon = False
    for token in _TOKEN.finditer(text):
        kind = token.lastgroup
        if kind == "skip":
            continue
        if kind == "open":
            path.append(name)
            name, after_colon = "", False
        elif kind == "close":
            path = path[:-1]
            name, after_colon = "", False
        elif kind == "colon":
            after_colon = True
        elif kind == "word" and not after_colon:
            name = token[0]
        else:
            number = _NUMBER.fullmatch(token[0]) if kind == "word" else None
            if number and name in _RATES and path[:2] == ["train_config", "optimizer"]:
                yield Rate(name, float(token[0].rstrip("fF")), token.start(), token.end())
            name, after_colon = "", False


def peak(text: str) -> float | None:
    """The highest rate of a configuration's schedule; None when none is written."""
    return max((rate.value for rate in rates(text) if rate.field in _PEAK), default=None)


def scaled(text: str, workers: int) -> str:
    """The configuration with its rates divided by the number of workers."""
    made, at = [], 0
    for rate in rates(text):
        made += [text[at : rate.start], f"{rate.value / workers:.10g}"]
        at = rate.end
    return "".join((*made, text[at:]))


def advice(text: str, workers: int) -> str | None:
    """What there is to say about a rate when several workers use it."""
    highest = peak(text)
    if workers < 2 or highest is None:
        return None
    return (
        f"learning rate {highest:g} with {workers} workers: each pushes gradients of its own, so a rate that was right for one "
        f"worker should go down to {highest / workers:.3g} (linear scaling; --scale-lr trains with it). One that was tuned "
        f"for {workers} workers is right as it is"
    )


def held(session: Session, file: JobFile, path: str, scale: bool, send: bool) -> tuple[JobFile, list[str]]:
    """The job file with its rate scaled, if that is wanted, and what to say about it. Raises UserError and GoogleError.

    `path`: the job's pipeline configuration. `send`: put the scaled copy in the bucket.
    """
    counts = {pool.role: pool.count for pool in file.pools}
    workers = counts.get("worker", 0)
    if workers < 2 or "ps" not in counts:
        why = f"there {'is one worker' if workers else 'are no workers'}"
        if workers > 1:
            why = "without parameter servers chief and workers take each step together, so that the rate is the batch's"
        return file, [f"--scale-lr changes nothing: {why}"] if scale else []
    from launcher.google.api import GoogleError

    try:
        text = _read(session, path)
    except (UserError, GoogleError) as error:
        if scale:
            raise
        return file, [f"the learning rate is not checked: {error}"]
    if not scale:
        said = advice(text, workers)
        return file, [said] if said else []
    highest = peak(text)
    if highest is None:
        raise UserError(f"--scale-lr: {path} writes no learning rate in train_config.optimizer; write it there first")
    content = scaled(text, workers).encode()
    name = session.own(f"config/{hashlib.sha256(content).hexdigest()[:12]}/pipeline.config")
    if send:
        session.put(name, content, "text/plain")
    from launcher.jobfile import overrides

    target = f"gs://{session.outputs.bucket}/{name}"
    changed = replace(
        file,
        job=overrides.with_pipeline_config(file.job, target),
        places={**file.places, ("pipelineConfigPath",): "--scale-lr"},
    )
    return changed, [
        f"--scale-lr: learning rate {highest:g} of {path} divided by {workers} workers: {highest / workers:.3g} ({target})"
    ]


def _read(session: Session, path: str) -> str:
    from launcher.google.api import GoogleError, split

    try:
        content = session.google.download(*split(path)) if path.startswith("gs://") else Path(path).read_bytes()
        return content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the pipeline configuration {path}: {error}; check pipelineConfigPath") from error
    except GoogleError as error:
        if error.status not in (403, 404):
            raise
        what = "is not there" if error.status == 404 else "may not be read by you"
        raise UserError(f"the pipeline configuration {path} {what}; `pulumi up` puts the stack's there") from error
