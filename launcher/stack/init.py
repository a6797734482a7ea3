"""`odcloud init`: a new stack, from the few answers that matter, checked before anything is written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from launcher.errors import UserError
from launcher.stack import pulumi

QUESTIONS: Mapping[str, tuple[str, str]] = {
    "gcp:project": ("Id of the Google Cloud project", ""),
    "gcp:region": ("Region of bucket and jobs", "us-central1"),
    "odcloud:onDestroy": ("What `pulumi destroy` does with results: refuse, keepCheckpoints or delete", "refuse"),
}
"""What is asked for if it is not given, and the answer that is offered."""


def init(stack: str, given: Mapping[str, str | None], form: str) -> int:
    """Make the stack if it is not there, and write what is given into its Pulumi.<stack>.yaml; what it had stays.

    Raises:
        UserError: an answer is missing or wrong (nothing is written then), or Pulumi refuses.
    """
    folder = pulumi.project_folder(Path.cwd())
    existing = folder / f"Pulumi.{stack}.yaml"
    had = _config(folder, stack) if existing.is_file() else {}
    values = {key: value for key, value in given.items() if value is not None}
    values |= {key: _ask(key) for key in QUESTIONS if key not in values and key not in had}
    _check(folder, stack, {**had, **values})
    pulumi.run(folder, "stack", "select", "--create", stack)
    settings = [argument for key, value in values.items() for argument in ("--plaintext", f"{key}={value}")]
    pulumi.run(folder, "config", "set-all", "--stack", stack, *settings)
    if form == "json":
        print(json.dumps({"stack": stack, "file": str(existing), "config": {**had, **values}}))
    else:
        print(f"{existing} is written, and the stack {stack} is selected. Next: `pulumi up`")
    return 0


def _ask(key: str) -> str:
    """An answer from the terminal. Raises UserError where there is none."""
    question, offered = QUESTIONS[key]
    if not sys.stdin.isatty():
        option = key.partition(":")[2].replace("onDestroy", "on-destroy")
        raise UserError(f"{key} is not given, and there is no terminal to ask on; give --{option} VALUE ({question.lower()})")
    return str(click.prompt(question, default=offered or None))


def _check(folder: Path, stack: str, values: Mapping[str, str]) -> None:
    """Let the stack's own program judge. Raises UserError with all that it finds wrong."""
    command = [sys.executable, "-m", "infra.config", stack]
    done = subprocess.run(command, cwd=folder, input=json.dumps(dict(values)), capture_output=True, text=True)
    if done.returncode:
        raise UserError(done.stderr.strip())


def _config(folder: Path, stack: str) -> dict[str, str]:
    found = json.loads(pulumi.run(folder, "config", "--json", "--stack", stack) or "{}")
    return {key: entry["value"] for key, entry in found.items() if "value" in entry}
