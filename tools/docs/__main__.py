"""`python -m tools.docs` writes the generated files that are committed: those that are read without the site, too."""

from __future__ import annotations

import sys
from pathlib import Path

from infra import grants
from launcher.jobfile import models
from tools.docs import migration

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = {
    "docs/job.schema.json": models.schema_text,
    "docs/migrating-from-ml-engine.md": migration.page,
    "docs/permissions.md": grants.page,
}


def outdated() -> list[str]:
    """Paths of the files that are not what they should be."""
    return [path for path, make in COMMITTED.items() if (ROOT / path).read_text(encoding="utf-8") != make()]


def main() -> None:
    for path in outdated():
        (ROOT / path).write_text(COMMITTED[path](), encoding="utf-8")
        print(f"{path} is written", file=sys.stderr)


if __name__ == "__main__":
    main()
