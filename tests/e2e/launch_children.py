"""Launchers by the hundred: each a process of its own that can be killed, forked from one that has imported the launcher.

Reads lines {"id", "run", "outputs"} and writes, for each, {"id", "started"}, then {"id", "job"} or {"id", "error"} by the
launcher itself (nothing if it is killed before), and {"id", "status"} when it has ended. A line {"kill"} kills the launcher of
that id, if it still runs: only here, where its end is waited for, is it known whose its pid is.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
from typing import Any

from infra.outputs import StackOutputs
from launcher.errors import UserError
from launcher.google.api import Google, GoogleError
from launcher.jobfile import reading, resolve
from launcher.launch import runs
from launcher.stack.session import Session


def tell(**fields: Any) -> None:
    os.write(1, (json.dumps(fields) + "\n").encode())  # one write, short: lines of several processes don't mix


def child(order: dict[str, Any], file: reading.JobFile) -> None:
    session = Session(StackOutputs.model_validate(order["outputs"]), Google("us-central1"))
    try:
        launched = runs.launch(session, resolve.training(session.outputs, file, order["run"]).job, lambda text: None)
        tell(id=order["id"], job=launched.job["name"])
    except (GoogleError, UserError) as error:
        tell(id=order["id"], error=str(error)[:300])


def main() -> None:
    file = reading.parse("trainingInput: {masterType: standard}", "job.yaml")
    resolve.training(StackOutputs.model_validate(json.loads(sys.argv[1])), file, "warm")
    gc.freeze()
    running: dict[int, int] = {}
    unread, open_ = b"", True
    while open_ or running:
        if select.select([0], [], [], 0.02)[0] and open_:
            chunk = os.read(0, 65536)
            open_ = bool(chunk)
            *lines, unread = (unread + chunk).split(b"\n")
            for order in map(json.loads, lines):
                if "kill" in order:
                    for pid in [pid for pid, number in running.items() if number == order["kill"]]:
                        os.kill(pid, signal.SIGKILL)
                    continue
                pid = os.fork()
                if pid == 0:
                    try:
                        child(order, file)
                    finally:
                        os._exit(0)
                running[pid] = order["id"]
                tell(id=order["id"], started=True)
        for pid in list(running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                tell(id=running.pop(pid), status=status)


if __name__ == "__main__":
    main()
