"""model { … } to one of Model Garden's detectors."""

from __future__ import annotations

from trainer.config import faster_rcnn, ssd
from trainer.config.layers import ModelSettings
from trainer.config.section import Section


def read(detection_model: Section) -> ModelSettings | None:
    """None, with a problem reported, when the model is none of the supported ones."""
    kind, model = detection_model.choice("model", ["ssd", "faster_rcnn"])
    if model is None:
        return None
    return ssd.read(model) if kind == "ssd" else faster_rcnn.read(model)
