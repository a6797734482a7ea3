"""`odcloud tensorboard`: a TensorBoard on this machine over a copy of a run's events, kept as new as the bucket.

One way for every bucket: the events come over the Storage API, so TensorBoard needs neither a mount nor credentials.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path, PurePosixPath
from types import FrameType

from launcher.data.datafiles import inside
from launcher.errors import UserError
from launcher.google.api import GoogleError
from launcher.launch import records, runs
from launcher.stack.session import Session, connect
from launcher.terminal import say

REFRESH = 10.0
"""Seconds between looks into the bucket."""


class Mirror:
    """A local copy of the events under some `gs://` folders of the stack's bucket, each in a subfolder of its own."""

    def __init__(self, session: Session, folders: dict[str, str], target: Path) -> None:
        """`folders`: {subfolder of `target`: gs:// URI}."""
        self._session = session
        self._folders = folders
        self._target = target
        self._seen: dict[str, str] = {}

    def refresh(self) -> int:
        """Copies what is new or has grown, and removes what is gone; returns how many were copied.

        Raises GoogleError and UserError.
        """
        bucket = self._session.outputs.bucket
        copied = 0
        for subfolder, uri in self._folders.items():
            prefix = uri.removeprefix(f"gs://{bucket}/") + "/"
            root = (self._target / subfolder).resolve()
            there = set()
            for item in self._session.objects(prefix):
                name, generation = item["name"], str(item["generation"])
                if ".tfevents." not in PurePosixPath(name).name:
                    continue
                path = inside(root, bucket, name, name.removeprefix(prefix))
                there.add(path)
                if self._seen.get(name) == generation:
                    continue
                write(path, self._session.google.download(bucket, name))
                self._seen[name] = generation
                copied += 1
            for path in set(root.rglob("*")) - there:
                if path.is_file():
                    path.unlink()
        return copied


def write(path: Path, content: bytes) -> None:
    """Makes the file hold `content`. One that has only grown is appended to: TensorBoard keeps it open and reads on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_bytes() if path.exists() else b""
    if before and content.startswith(before):
        with path.open("ab") as file:
            file.write(content[len(before) :])
        return
    part = path.with_name(f"{path.name}.part{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)


def cache(bucket: str, run: str) -> Path:
    """Where a run's events are copied to."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "odcloud" / "tensorboard" / bucket / run


def tensorboard(run: str | None, port: int, stack: str | None) -> int:
    """The command: until TensorBoard ends, or Ctrl-C. Returns its exit code."""
    if run:
        runs.check_id(run)
    session = connect(stack)
    outputs = session.outputs
    run = run or runs.newest(session)
    folder = cache(outputs.bucket, run)
    mirror = Mirror(session, {"train": f"{outputs.train_dir}/{run}", "eval": f"{outputs.eval_dir}/{run}"}, folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not mirror.refresh():
        if not any(records.listed(session, f"runs/{run}/")):
            raise UserError(f"there is no run {run}; `odcloud jobs list` shows the runs")
        say(f"run {run} has left no events yet; they are shown when they come")
    options = ["--logdir", str(folder), "--port", str(port), "--reload_interval", str(REFRESH), "--load_fast", "false"]
    # What TensorFlow and pkg_resources say of themselves at each start is not for the user of this command.
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore", **os.environ}
    board = subprocess.Popen([sys.executable, "-m", "tensorboard.main", *options], env=quiet, start_new_session=True)

    def end(number: int, _: FrameType | None) -> None:
        raise KeyboardInterrupt

    # TensorBoard is in a session of its own: a terminal that is closed does not end it.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, end)
    try:
        return _keep(board, mirror)
    except KeyboardInterrupt:
        return 0
    finally:
        board.terminate()
        try:
            board.wait(10)
        except subprocess.TimeoutExpired:
            board.kill()
            board.wait()


def _keep(board: subprocess.Popen[bytes], mirror: Mirror) -> int:
    """Refreshes the mirror while TensorBoard runs. Raises UserError when that ended by itself, in trouble."""
    told = ""
    following = time.monotonic() + REFRESH
    while True:
        try:
            code = board.wait(max(0.1, following - time.monotonic()))
        except subprocess.TimeoutExpired:
            following = time.monotonic() + REFRESH
        else:
            if code:
                raise UserError(f"TensorBoard ended with exit code {code}; another --port may help (what it said is above)")
            return 0
        try:
            mirror.refresh()
            told = ""
        except GoogleError as error:
            if not error.transient:
                raise
            if str(error) != told:
                say(f"{error}; what is shown stays as it is until then")
            told = str(error)
