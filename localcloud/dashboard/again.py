"""The request of a job once more, as a job of its own that nobody takes for the old one. Pure.

The launcher knows a run's jobs by their display name and label (`odcloud-run`), and a launch's by another label; a run's
training writes to a folder called after the run. So the copy gets a name, a run and a folder of its own, as `odcloud resubmit`
would give it, and no launch. An evaluation's copy evaluates the same run.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

RUN, KIND, LAUNCH = "odcloud-run", "odcloud-kind", "odcloud-launch"
_LONGEST_NAME, _LONGEST_LABEL = 128, 63


def _new_name(old: str, seconds: int, longest: int) -> str:
    """`object_detection_1511212800`, `pets` -> `object_detection_<seconds since 1970>`, `pets_<seconds>`.

    In an evaluation's name its run's seconds stay: `…_eval_1511212800` -> `…_eval_1511212800_<seconds>`."""
    ending = f"_{seconds}"
    return re.sub(r"(?<!_eval)_\d{10}$", "", old)[: longest - len(ending)] + ending


def trains_a_run(labels: Mapping[str, str]) -> bool:
    """Whether a job with these labels belongs to a run, and is none of its evaluations."""
    return RUN in labels and labels.get(KIND) != "eval"


def copied(request: Mapping[str, Any], seconds: int) -> dict[str, Any]:
    """The request (a CustomJob, or an ML Engine Job) under a new name, for a run of its own if it trains one."""
    made = copy.deepcopy(dict(request))
    name = "jobId" if "trainingInput" in made else "displayName"
    made[name] = _new_name(str(made[name]), seconds, _LONGEST_NAME)
    labels = {key: value for key, value in made.get("labels", {}).items() if key != LAUNCH}
    if trains_a_run(labels):
        old, labels[RUN] = labels[RUN], _new_name(labels[RUN], seconds, _LONGEST_LABEL)
        folder = re.compile(rf"/{re.escape(old)}(?=/|$)")
        part = "trainingInput" if "trainingInput" in made else "jobSpec"
        made[part] = _moved(made[part], folder, f"/{labels[RUN]}")
    return {**made, "labels": labels} if labels else made


def _moved(value: Any, folder: re.Pattern[str], new: str) -> Any:
    """With the folder renamed in every text that names something in a bucket."""
    if isinstance(value, str):
        head, address, path = value.partition("gs://")
        return head + address + folder.sub(lambda _: new, path) if address else value
    if isinstance(value, Mapping):
        return {key: _moved(inner, folder, new) for key, inner in value.items()}
    return [_moved(inner, folder, new) for inner in value] if isinstance(value, list) else value
