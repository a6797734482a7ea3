"""What each stack has begun to make and not deleted, noted in the Pulumi home.

Pulumi writes a resource into its state only when it is made. What a killed `pulumi up` has made is so in no state, and in the
way of the next one, which knows it by the note: it was this very stack that began it.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


class Note:
    """That a resource of a stack (`urn`) began to make what the service calls `identity`: one small file."""

    def __init__(self, urn: str, identity: str) -> None:
        home = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
        self.text = f"{urn}\n{identity}\n"
        self.path = home / "odcloud-made" / hashlib.sha256(self.text.encode()).hexdigest()

    def is_there(self) -> bool:
        return self.path.is_file()

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(self.text, encoding="utf-8")

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)
