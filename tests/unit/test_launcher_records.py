"""When a launch's record may be taken over from another launcher."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from launcher.launch import records

BEGAN = datetime(2026, 1, 1, tzinfo=timezone.utc)


class Time:
    """A clock that is set."""

    def __init__(self) -> None:
        self.passed = 0.0

    def __call__(self) -> float:
        return 1000.0 + self.passed

    def date(self) -> datetime:
        return BEGAN + timedelta(seconds=self.passed)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(records, "clock", made)
    return made


def record(pid: int | None, generation: int = 1) -> records.Record:
    """An open record written at BEGAN by a process of this machine, or (None) of another one."""
    holder: dict[str, Any] = {"host": "h", "machine": records._machine() if pid else "another boot", "pid": pid or 1}
    return records.Record("runs/r/train-1.json", generation, {"launcher": holder}, BEGAN.isoformat().replace("+00:00", "Z"))


NOBODY = 2**22 + 1  # above the largest process id


def test_a_holder_that_is_gone_may_have_sent_its_call_just_before(time: Time) -> None:
    """Known to be gone from now on: what it may have sent a moment ago, long after its last write, is waited for."""
    watch = records.Watch()
    time.passed = records.FRESH - 1
    assert "may still be under way" in watch.reason(record(NOBODY), time.date())
    time.passed += records.SETTLE
    assert watch.reason(record(NOBODY), time.date())
    time.passed += 1
    assert watch.reason(record(NOBODY), time.date()) == ""


def test_a_record_that_was_left_long_ago_is_taken_over_at_once(time: Time) -> None:
    time.passed = records.FRESH + records.SETTLE + 1
    assert records.Watch().reason(record(NOBODY), time.date()) == ""


def test_a_holder_that_dies_while_it_is_watched(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    watch, held = records.Watch(), record(NOBODY)
    with monkeypatch.context() as living:
        living.setattr(records.Record, "gone", lambda self: False)
        time.passed = records.FRESH - 5
        assert watch.reason(held, time.date()) == "another launcher (h) is launching this run"
    assert "may still be under way" in watch.reason(held, time.date())
    time.passed += records.SETTLE - 1
    assert watch.reason(held, time.date())


def test_another_machine_s_holder_has_its_lease_and_a_renewal_begins_it_anew(time: Time) -> None:
    watch = records.Watch()
    assert "another launcher" in watch.reason(record(None), None)
    time.passed = records.LEASE + 1
    assert watch.reason(record(None, generation=2), None)
    assert watch.reason(record(None, generation=1), None)
    time.passed += records.LEASE + 1
    assert watch.reason(record(None, generation=1), None) == ""
