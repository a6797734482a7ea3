"""`odcloud export`: fetches a run's last checkpoint and what belongs to it, and hands them to the trainer's export."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from launcher.data.datafiles import fetch
from launcher.errors import UserError
from launcher.google.api import Google, GoogleError, split
from launcher.launch import runs
from launcher.stack.session import connect


def export(source: str, destination: str, label_map: str | None, stack: str | None, form: str) -> int:
    """The command; the exit code of `python -m trainer.export`. Raises UserError, GoogleError."""
    options = [f"--output={destination}", f"--format={form}", *([f"--label_map={label_map}"] if label_map else [])]
    if not source.startswith("gs://") and (Path(source).is_dir() or os.sep in source):
        return _run([f"--checkpoint_dir={source}", *options], {})
    if source.startswith("gs://"):
        google, uri = Google("us-central1"), source.rstrip("/")
    else:
        runs.check_id(source)
        session = connect(stack)
        google, uri = session.google, f"{session.outputs.train_dir}/{source}"
    with tempfile.TemporaryDirectory(prefix="odcloud-export-") as name:
        _fetch(google, uri, Path(name), with_labels=label_map is None)
        return _run([f"--checkpoint_dir={uri}", *options], {"GCS_ROOT": name})


def _run(options: Sequence[str], environment: dict[str, str]) -> int:
    command = [sys.executable, "-m", "trainer.export", *options]
    return subprocess.run(command, env={**os.environ, **environment}, check=False).returncode


def _fetch(google: Google, uri: str, mount: Path, with_labels: bool) -> None:
    """The last checkpoint's files, the configuration and its label maps. Raises UserError."""
    bucket, folder = split(uri)
    texts = {}
    for name, other in (("checkpoint", None), ("pipeline.config", "pipeline.yaml")):
        content = _download(google, bucket, f"{folder}/{name}")
        if content is None and other:
            content = _download(google, bucket, f"{folder}/{other}")
            path = mount / bucket / folder / other
        else:
            path = mount / bucket / folder / name
        if content is None:
            raise UserError(f"{uri}/{name}: is not there; has the run been trained? (odcloud jobs list)")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        texts[name] = content.decode("utf-8", "replace")
    last = re.search(r'^model_checkpoint_path: "([^"/]+)"', texts["checkpoint"], re.M)
    if not last:
        raise UserError(f"{uri}/checkpoint: does not name the last checkpoint as TensorFlow writes it")
    wanted = [f"{uri}/{last[1]}.*"]
    if with_labels:
        labels = re.findall(r'label_map_path\s*:\s*["\']?(gs://[^\s"\']+)', texts["pipeline.config"])
        if path.suffix == ".yaml":  # Model Garden's form names none: it is the one beside the records
            records = re.findall(r'input_path\s*:\s*["\']?(gs://[^\s"\',]+)/', texts["pipeline.config"])
            labels = [f"{folder}/label_map.pbtxt" for folder in records]
        wanted += dict.fromkeys(labels)
    for each in wanted:
        fetch(google, each, mount)


def _download(google: Google, bucket: str, name: str) -> bytes | None:
    """The object's bytes; None when it is not there. Raises GoogleError."""
    try:
        return google.download(bucket, name)
    except GoogleError as error:
        if error.status == 404:
            return None
        raise
