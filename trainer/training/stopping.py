"""How an evaluation ends a training that no longer gets better: a small file beside the checkpoints."""

from __future__ import annotations

import json

from trainer import files, paths


class Stop:
    """The file in the folder of the checkpoints."""

    def __init__(self, folder: str) -> None:
        self.path = paths.join(folder, "stop-early.json")

    def ask(self, step: int, best_step: int, score: float) -> None:
        """Asks training to end. step: of the last evaluation. Raises OSError."""
        files.write(self.path, json.dumps({"step": step, "best_step": best_step, "AP": score}) + "\n")

    def asked(self) -> str | None:
        """Why training is to end, as a sentence; None as long as it is not."""
        try:
            found = json.loads(files.read(self.path) or "null")
        except (OSError, ValueError):
            return None
        if not isinstance(found, dict):
            return None
        return f"evaluation found no better AP than {found.get('AP')} of step {found.get('best_step')}"
