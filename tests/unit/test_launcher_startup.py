"""What a command imports: modules are counted, not seconds, for a count is the same on every machine."""

from __future__ import annotations

import os
import pkgutil
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from launcher import cli
from launcher import commands as launcher_commands
from launcher.commands import mlengine

HEAVY = {
    "pydantic",
    "ruamel",
    "rich",
    "google",
    "googleapiclient",
    "pulumi",
    "tensorflow",
    "numpy",
    "ssl",
    "http",
    "yaml",
    "asyncio",
    "infra",
}
COMMANDS = [module.name for module in pkgutil.iter_modules(launcher_commands.__path__)]


def imported(*arguments: str) -> set[str]:
    """The modules that `odcloud ARGUMENTS` imports beyond those of the interpreter's own start."""
    command = f"import runpy, sys; sys.argv[1:] = {list(arguments)!r}; runpy.run_module('launcher.cli', run_name='__main__')"
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout
    names = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]
    return set(names[names.index("site") + 1 :])


def test_help_imports_little() -> None:
    for arguments in (["--help"], ["train", "--help"], ["jobs", "--help"]):
        found = imported(*arguments)
        assert {name.partition(".")[0] for name in found} & HEAVY == set()
        assert {name for name in found if name.startswith("launcher.")} <= {
            "launcher.cli",
            "launcher.commands",
            *(f"launcher.commands.{name}" for name in COMMANDS),
            "launcher.errors",
            "launcher.legacy",
        }
        assert len(found) < 150, sorted(found)


def commands(group: click.Group, path: str = "odcloud") -> Iterator[tuple[str, click.Command]]:
    """Every command with what is typed for it."""
    yield path, group
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def test_the_examples_in_the_help_can_be_typed() -> None:
    known = dict(commands(cli.odcloud))
    examples = [
        line for command in known.values() for line in re.findall(r"^  +(odcloud .*)$", command.help or "", re.MULTILINE)
    ]
    assert len(examples) > 5
    for example in examples:
        path = max((path for path in known if f"{example} ".startswith(f"{path} ")), key=len)
        words = shlex.split(example.removeprefix(path))
        left = known[path].make_context(path, words).args  # raises what a user would read
        assert left == []


def test_each_option_says_what_it_is() -> None:
    for path, command in (*commands(cli.odcloud), *commands(mlengine.group, "odcloud ml-engine")):
        for option in command.params:
            assert not isinstance(option, click.Option) or option.help, f"{path} {option.opts}"


def test_a_group_alone_shows_its_help() -> None:
    for words in ([], ["jobs"], ["data"], ["image"], ["local"], ["config"]):
        done = subprocess.run([sys.executable, "-m", "launcher.cli", *words], capture_output=True, text=True)
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.lower().startswith("usage: ") and "error" not in done.stderr.splitlines()[0]


def test_what_the_system_refuses_is_one_error(tmp_path: Path) -> None:
    """The working folder is gone; the other refusals (no rights, a full disk) come the same way."""
    script = f"cd {tmp_path}; rmdir {tmp_path}; exec {sys.executable} -m launcher.cli jobs list"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "odcloud: error: No such file or directory\n")


def test_the_list_of_commands_is_not_cut_off() -> None:
    done = subprocess.run([sys.executable, "-m", "launcher.cli", "--help"], capture_output=True, text=True)
    assert not [line for line in done.stdout.splitlines()[1:] if line.endswith("...")]
