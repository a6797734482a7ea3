"""`odcloud …` by a launcher that stops itself (SIGSTOP) once at a given moment: MOMENT ARGUMENTS….

Its lease is short, so that the test is. Until somebody continues it, it stands still as on a laptop whose lid was closed.
"""

from __future__ import annotations

import os
import signal
import sys

from launcher import cli
from launcher.launch import records, runs

records.FRESH, records.LEASE = 1.0, 3.0
moment = sys.argv.pop(1)


def stop() -> None:
    global moment
    moment = ""
    os.kill(os.getpid(), signal.SIGSTOP)


claim, may_send = records.claim, runs._Launch._may_send


def held(*arguments: object) -> records.Record | None:
    found = claim(*arguments)  # type: ignore[arg-type]
    if moment == "before the call":
        stop()
    return found


def allowed(self: runs._Launch, record: records.Record) -> bool:
    answer = may_send(self, record)
    if answer and moment == "in the call":
        stop()
    return answer


records.claim, runs._Launch._may_send = held, allowed  # type: ignore[method-assign]
cli.main()
