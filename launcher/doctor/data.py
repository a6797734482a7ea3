"""Data and pipeline configuration agree. The trainer's own reader and checker look at them, in processes of their own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.doctor.case import Case, Finding, error, ok, skipped
from launcher.google.api import GoogleError, split
from launcher.terminal import size

LARGEST = 256 * 2**20
"""Bytes of a shard that is still downloaded to parse an example of it."""
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})(?:\.[^/]*)?$")


class Trouble(Exception):
    """What is wrong, and the command that mends it: carried up to the one place that makes a finding of it."""

    def __init__(self, text: str, fix: str) -> None:
        super().__init__(text)
        self.fix = fix


def read_config(case: Case, folder: Path) -> Mapping[str, Any]:
    """What the trainer reads from the job's pipeline configuration (see `python -m trainer.config --help`).

    Raises Trouble and GoogleError.
    """
    uri = case.pipeline_config()
    assert uri is not None
    path = folder / "pipeline.config"
    path.write_bytes(_download(case, uri))
    command = [sys.executable, "-m", "trainer.config", "check", "--format=json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Trouble(_said(done.stderr, {str(path): uri}), "mend the configuration, then `pulumi up`")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def data(case: Case) -> Finding:
    """The configuration is one that the trainer takes, its data is there whole, and an example of it can be parsed."""
    uri = case.pipeline_config()
    if uri is None or not uri.startswith("gs://"):
        return skipped(f"the job's pipeline configuration is not in a bucket: {uri or 'it names none'}")
    if case.packages() != list(case.outputs.package_uris):
        return skipped("the job does not run the stack's own trainer: what its program makes of its configuration is not known")
    with tempfile.TemporaryDirectory(prefix="odcloud-doctor-") as name:
        folder = Path(name)
        try:
            config = read_config(case, folder)
            case.found["config"] = config
            parts = [_check(case, config, config[kind], kind, folder) for kind in ("train", "eval")]
        except Trouble as trouble:
            return error(str(trouble), trouble.fix)
    return ok(f"{uri}: {'; '.join(parts)}")


def _check(case: Case, config: Mapping[str, Any], reader: Mapping[str, Any], kind: str, folder: Path) -> str:
    """Checks one reader's label map and shards; says what was found. Raises Trouble and GoogleError."""
    labels = folder / f"{kind}.pbtxt"
    labels.write_bytes(_download(case, reader["labelMap"]))
    items = [(pattern, item) for pattern in reader["patterns"] for item in _shards(case, pattern)]
    pattern, smallest = min(items, key=lambda pair: int(pair[1].get("size", 0)))
    uri = f"gs://{split(pattern)[0]}/{smallest['name']}"
    total = sum(int(item.get("size", 0)) for _, item in items)
    if int(smallest.get("size", 0)) > LARGEST:
        return f"{kind}: {len(items)} files of {size(total)}, too large to fetch one and parse it"
    # Named so that it is no shard of a set: its fellows are not fetched.
    shard = folder / f"{kind}.tfrecord"
    shard.write_bytes(_download(case, uri))
    done = subprocess.run(
        [sys.executable, "-m", "trainer.data", "check", str(shard), f"--label-map={labels}", "--format=json"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = _said(done.stderr, {str(shard): uri, str(labels): reader["labelMap"]})
        raise Trouble(said, "odcloud data check FILES --label-map FILE, then `pulumi up`")
    found = json.loads(done.stdout)
    if len(found["boxes"]) != config["classes"]:
        raise Trouble(
            f"{reader['labelMap']} has {len(found['boxes'])} classes, the configuration's num_classes is {config['classes']}",
            "make the two agree, then `pulumi up`",
        )
    case.found[f"{kind} record"] = int(smallest.get("size", 0)) / found["records"]
    return f"{kind}: {len(items)} files of {size(total)}, {len(found['boxes'])} classes, examples can be parsed"


def _shards(case: Case, pattern: str) -> list[dict[str, Any]]:
    """The objects of a pattern, a complete set of shards or more. Raises Trouble and GoogleError."""
    if not pattern.startswith("gs://"):
        raise Trouble(f"{pattern}: replicas cannot see a path of this machine", "put the data in the bucket, then `pulumi up`")
    found = case.matching(pattern)
    if not found:
        raise Trouble(f"{pattern}: no file matches", "make the data (odcloud data --help) and upload it: pulumi up")
    sets: dict[tuple[str, int], set[int]] = {}
    for item in found:
        if match := _SHARD.search(item["name"]):
            sets.setdefault((item["name"][: match.start()], int(match[2])), set()).add(int(match[1]))
    for (stem, count), there in sets.items():
        missing = sorted(set(range(count)) - there)
        if missing:
            raise Trouble(
                f"{stem}-{missing[0]:05d}-of-{count:05d}: shard is missing ({len(there)} of {count} are there)", "pulumi up"
            )
    return found


def _download(case: Case, uri: str) -> bytes:
    if not uri.startswith("gs://"):
        raise Trouble(f"{uri}: replicas cannot see a path of this machine", "put it in the bucket, then `pulumi up`")
    bucket, name = split(uri)
    try:
        return case.session.google.download(bucket, name)
    except GoogleError as failure:
        if failure.status == 404:
            raise Trouble(f"{uri} does not exist", "pulumi up") from failure
        raise


def _said(stderr: str, names: Mapping[str, str]) -> str:
    """A trainer's command's message, its last line, with the names that the user knows in the place of copies'."""
    lines = stderr.strip().splitlines() or ["(no explanation)"]
    start = next((number for number, line in enumerate(lines) if line.startswith("odcloud: error: ")), len(lines) - 1)
    said = "; ".join(lines[start:]).removeprefix("odcloud: error: ")
    for path, uri in names.items():
        said = said.replace(path, uri)
    return said
