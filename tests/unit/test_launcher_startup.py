"""What a command imports: modules are counted, not seconds, for a count is the same on every machine."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"pydantic", "ruamel", "rich", "google", "googleapiclient", "pulumi", "tensorflow", "numpy", "ssl", "http", "yaml"}


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
            "launcher.errors",
            "launcher.legacy",
        }
        assert len(found) < 150, sorted(found)
