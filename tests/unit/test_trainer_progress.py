from __future__ import annotations

import io
import json
import re
import sys
import threading
import time

import pytest

from trainer.progress import Progress, Rate, duration, log


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (171, "2 min 51 s"), (3660, "1 h 1 min"), (-3, "0 s")]
)
def test_durations_are_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_rate_forgets_what_is_long_ago() -> None:
    rate = Rate()
    rate.add(0, 0)
    assert rate.value() is None
    for second in range(1, 101):
        rate.add(second, second if second <= 50 else 50 + 4 * (second - 50))
    assert rate.value() == pytest.approx(4)


def test_lines_tell_step_loss_rate_and_time_left() -> None:
    stream = io.StringIO()
    progress = Progress(10, every=0.05, stream=stream)
    progress.phase("waiting for 3 replicas")
    with progress:
        while not stream.getvalue().endswith("\n"):
            time.sleep(0.01)
        progress.update(2)
        progress.update(3, 1.2345)
        progress.update(10, 0.5)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    message = lines[0].pop("message")
    assert re.fullmatch(r"step 0/10 · waiting for 3 replicas · \d+ s", message)
    assert lines[0] == {"severity": "INFO", "step": 0, "steps": 10}
    middle = next(line for line in lines if line["step"] == 3)
    assert middle["loss"] == 1.2345
    assert middle["message"].startswith("step 3/10 · loss 1.23 · ")
    assert (lines[-1]["step"], lines[-1]["loss"]) == (10, 0.5)
    assert lines[-1]["message"].endswith(" · saving") and "seconds_left" not in lines[-1]


def test_the_end_is_always_reported() -> None:
    stream = io.StringIO()
    with Progress(1, every=60, stream=stream) as progress:
        progress.update(1, 0.25)
    assert json.loads(stream.getvalue())["step"] == 1


def test_lines_of_several_threads_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(io.StringIO):
        """Lets other threads go on after each write."""

        def write(self, text: str) -> int:
            written = super().write(text)
            time.sleep(0.001)
            return written

    monkeypatch.setattr(sys, "stdout", Slow())
    threads = [threading.Thread(target=lambda: [log("word", step=step) for step in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = sys.stdout.getvalue().splitlines()  # type: ignore[attr-defined]
    assert sorted(json.loads(line)["step"] for line in lines) == sorted(list(range(20)) * 4)
