"""tools/pulumi/install.py as `make setup` runs it: real processes, no network, stand-ins for `pulumi` and `go`."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

INSTALLER = Path(__file__).parents[2] / "tools" / "pulumi" / "install.py"
PROGRAMS = {"pulumi", "pulumi-language-python", "pulumi-language-python-exec", "pulumi-resource-pulumi-python"}
NO_NETWORK = "http://127.0.0.1:9"


class Machine:
    """A machine of its own: PATH, cache folder and target folder under one temporary folder."""

    def __init__(self, root: Path) -> None:
        self.path, self.cache, self.bin = root / "path", root / "cache", root / "venv-bin"
        self.path.mkdir()
        self.environment = {"HTTPS_PROXY": NO_NETWORK, "XDG_CACHE_HOME": str(self.cache), "PATH": f"{self.path}:/bin:/usr/bin"}

    def program(self, name: str, script: str) -> Path:
        program = self.path / name
        program.write_text("#!/bin/sh\n" + textwrap.dedent(script))
        program.chmod(0o755)
        return program

    @property
    def command(self) -> list[str]:
        return [sys.executable, str(INSTALLER), "--bin-dir", str(self.bin)]

    def install(self) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(self.command, env=self.environment, capture_output=True, text=True, timeout=60)

    def links(self) -> set[str]:
        return {link.name for link in self.bin.iterdir()} if self.bin.exists() else set()

    def kept(self) -> set[str]:
        """What is in the cache besides the lock."""
        return {entry.name for entry in (self.cache / "odcloud" / "pulumi").iterdir()} - {"lock"}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def fake_go(machine: Machine, build: str) -> None:
    """A `go` that knows the four subcommands used; `build` is what it does for `go build … -o TARGET PACKAGE`."""
    module = machine.path.parent / "module"
    for script in ("cmd/pulumi-language-python-exec", "dist/pulumi-resource-pulumi-python"):
        (module / "python" / script).parent.mkdir(parents=True, exist_ok=True)
        (module / "python" / script).write_text("#!/bin/sh\n")
    machine.program(
        "go",
        f"""
        case "$1 $2" in
          "list -m") echo {module} ;;
          "list "*) echo a; echo b ;;
          "mod download") ;;
          "build "*) while [ "$1" != "-o" ]; do shift; done; TARGET=$2
            {build} ;;
          *) echo "unexpected: $*" >&2; exit 1 ;;
        esac
        """,
    )


def test_without_pulumi_network_and_go_says_what_was_tried_and_what_to_do(machine: Machine) -> None:
    machine.environment["PATH"] = str(machine.path)
    result = machine.install()
    assert result.returncode == 2
    assert result.stderr.startswith("odcloud: error: Pulumi ")
    assert "Traceback" not in result.stderr
    for expected in ("no `pulumi` on PATH", "https://get.pulumi.com/", "no `go` on PATH", "Install Pulumi"):
        assert expected in result.stderr
    assert machine.links() == set()
    assert machine.kept() == set()


def test_a_recent_pulumi_on_path_is_linked_with_its_language_host(machine: Machine) -> None:
    machine.program("pulumi", "echo v3.300.1")
    for name in PROGRAMS - {"pulumi"}:
        machine.program(name, "")
    for _ in range(2):  # the second time nothing changes
        result = machine.install()
        assert result.returncode == 0, result.stderr
        assert machine.links() == PROGRAMS
        assert (machine.bin / "pulumi").resolve() == machine.path / "pulumi"


@pytest.mark.parametrize("cached", [False, True])
def test_a_folder_that_cannot_take_the_links_is_named(machine: Machine, cached: bool) -> None:
    if cached:
        fake_go(machine, build='echo built > "$TARGET"; chmod +x "$TARGET"')
        assert machine.install().returncode == 0
        machine.bin = machine.bin.parent / "another-clone"
    else:
        machine.program("pulumi", "echo v3.300.1")
        for name in PROGRAMS - {"pulumi"}:
            machine.program(name, "")
    machine.bin.write_text("a file where the folder should be")
    result = machine.install()
    assert result.returncode == 2
    assert result.stderr.startswith("odcloud: error: Pulumi cannot be linked in ") and result.stderr.count("\n") == 1
    assert str(machine.bin) in result.stderr


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("echo v3.100.0", "is v3.100.0, older than"),
        ("echo nonsense", "does not tell its version"),
        ("echo v3.300.0", "has no pulumi-language-python beside it"),
    ],
)
def test_an_unusable_pulumi_on_path_is_passed_over_with_the_reason(machine: Machine, answer: str, reason: str) -> None:
    machine.environment["PATH"] = f"{machine.path}:/bin"
    machine.program("pulumi", answer)
    machine.program("go", "exit 1")
    result = machine.install()
    assert result.returncode == 2
    assert reason in result.stderr


def test_a_build_is_kept_for_the_next_clone(machine: Machine) -> None:
    fake_go(machine, build='echo built > "$TARGET"; chmod +x "$TARGET"')
    assert machine.install().returncode == 0
    assert machine.links() == PROGRAMS
    machine.program("go", "exit 1")  # must not be needed again
    machine.bin = machine.bin.parent / "another-clone"
    result = machine.install()
    assert result.returncode == 0, result.stderr
    assert machine.links() == PROGRAMS
    assert (machine.bin / "pulumi").read_text() == "built\n"


def test_a_failed_build_tells_the_last_line_and_leaves_nothing(machine: Machine) -> None:
    fake_go(machine, build='echo half > "$TARGET"; echo "some package: undefined" >&2; exit 1')
    result = machine.install()
    assert result.returncode == 2
    assert "some package: undefined" in result.stderr
    assert machine.links() == set()
    assert machine.kept() == set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_build_leaves_nothing_half_done(machine: Machine, number: signal.Signals) -> None:
    started = machine.path.parent / "started"
    fake_go(machine, build=f'echo half > "$TARGET"; echo $$ > {started}.new; mv {started}.new {started}; exec sleep 600')
    process = subprocess.Popen(machine.command, env=machine.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while not started.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    builder = int(started.read_text())
    process.send_signal(number)
    process.communicate(timeout=30)
    if number is signal.SIGKILL:  # cannot clean up; the next run does
        os.kill(builder, signal.SIGKILL)
    else:
        assert machine.kept() == set()
        with pytest.raises(ProcessLookupError):
            os.kill(builder, 0)
    assert machine.links() == set()
    fake_go(machine, build='echo whole > "$TARGET"; chmod +x "$TARGET"')
    assert machine.install().returncode == 0
    assert (machine.bin / "pulumi").read_text() == "whole\n"
    assert len(machine.kept()) == 1
