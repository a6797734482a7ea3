from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from trainer.training import watchdog
from trainer.training.watchdog import Watchdog, answers, explodes

SERVER = """
import concurrent.futures, grpc, sys, time
server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
time.sleep(600)
"""


@pytest.fixture
def server() -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    yield process, f"127.0.0.1:{int(process.stdout.readline())}"
    process.kill()
    process.wait()


def wait(condition: object) -> None:
    deadline = time.monotonic() + 60
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_server_that_stands_still_does_not_answer(server: tuple[subprocess.Popen[str], str]) -> None:
    process, address = server
    wait(lambda: answers(address))
    os.kill(process.pid, signal.SIGSTOP)
    with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))):
        assert not answers(address), "it only accepts connections"
    os.kill(process.pid, signal.SIGCONT)
    wait(lambda: answers(address))


def test_it_names_the_replica_and_gives_up(
    server: tuple[subprocess.Popen[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    _, address = server
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        gone = f"127.0.0.1:{nobody.getsockname()[1]}"
    wait(lambda: answers(address))
    given_up: list[str] = []
    end = threading.Event()
    with Watchdog(0.3, {"worker 0": address, "worker 1": gone}, lambda reason: (given_up.append(reason), end.set())) as dog:  # type: ignore[func-returns-value]
        dog.step()
        assert end.wait(60)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["severity"] for line in lines] == ["ERROR"]
    for said in (lines[0]["message"], *given_up):
        assert f"no answer from worker 1 ({gone})" in said and "worker 0" not in said


class Clock:
    """In the place of the module `time`: a clock that is set, and counts how often another thread looked at it."""

    def __init__(self) -> None:
        self.now, self.looks = 0.0, 0

    def monotonic(self) -> float:
        now = self.now
        self.looks += threading.current_thread() is not threading.main_thread()
        return now


def test_while_steps_come_it_is_silent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    monkeypatch.setattr(watchdog, "time", clock)
    reasons: list[str] = []
    with Watchdog(0.2, {}, reasons.append) as dog:
        for _ in range(8):
            dog.step()
            clock.now += 0.15
            before = clock.looks
            wait(lambda before=before: clock.looks > before + 1)  # the first one may have begun before the clock was set
    assert not reasons and not capsys.readouterr().out


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([2.0] * 30, False),
        ([2.0] * 10 + [1e6] * 5, True),
        ([2.0] * 10 + [1e6] * 4 + [3.0], False),  # one bad batch is not the end
        ([500.0] * 10 + [2e4] * 5, False),  # it began high
        ([2.0] * 10 + [900.0] * 5, False),
        ([1e6] * 9, False),
    ],
)
def test_an_explosion_is_several_losses_in_a_row(losses: list[float], expected: bool) -> None:
    assert explodes(losses) is expected
