"""docs/troubleshooting.md: what is explained there is what odcloud says."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_message_explained_is_one_of_the_sources() -> None:
    headings = re.findall(r"^### (.+)$", (ROOT / "docs" / "troubleshooting.md").read_text(), re.M)
    sources = "".join(
        path.read_text() for room in ("infra", "launcher", "localcloud", "trainer") for path in (ROOT / room).rglob("*.py")
    )
    unknown = [heading for heading in headings if "<!--" not in heading and heading not in sources]
    assert len(headings) > 8 and not unknown
