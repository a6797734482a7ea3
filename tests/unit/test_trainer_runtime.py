"""How many threads TensorFlow is given."""

from __future__ import annotations

import os

import pytest

from trainer import runtime

VARIABLE = "TF_NUM_INTRAOP_THREADS"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {name: value for name, value in os.environ.items() if not name.startswith("TF_")})
    monkeypatch.setattr(runtime, "_own", set())


@pytest.mark.parametrize(
    ("cores", "processes", "side", "threads"),
    [(2, 1, 128, "1"), (2, 1, 256, "2"), (2, 2, 128, "1"), (8, 1, 128, "8"), (8, 4, 320, "2"), (1, 2, 320, "1")],
)
def test_cores_are_shared_and_small_images_get_one_of_two(
    cores: int, processes: int, side: int, threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "_cores", lambda: cores)
    runtime.prepare(processes)
    runtime.suit_images(side, side)
    assert os.environ[VARIABLE] == threads


def test_what_a_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_cores", lambda: 2)
    os.environ[VARIABLE] = "2"
    runtime.prepare()
    runtime.suit_images(64, 64)
    assert os.environ[VARIABLE] == "2"
