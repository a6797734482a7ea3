"""PASCAL VOC's and COCO's metrics against references, on detections that hypothesis makes up.

The reference of VOC is written from the development kit's definition, box by box, with the kit's coordinates (from 1, both ends
inside); it shares no line with trainer/evaluation/pascal.py.
"""

from __future__ import annotations

import contextlib
import io
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from trainer.config import experiment
from trainer.errors import InputError
from trainer.evaluation import coco, pascal
from trainer.evaluation.coco import Annotated

NAMES = {1: "dog", 2: "cat", 5: "bird"}
CONFIG = Path(__file__).parents[2] / "examples/digits/pipeline.config"


def reference(truth: list[list[dict]], found: list[list[dict]], number: int) -> tuple[float, float] | None:
    """(AP of 2007, AP of 2010) of a class: VOCevaldet.m and VOCap.m, step by step. None: no object that counts."""
    wanted = sum(1 for objects in truth for o in objects if o["class"] == number and not o["difficult"])
    if not wanted:
        return None
    every = [(d["score"], image, d["box"]) for image, boxes in enumerate(found) for d in boxes if d["class"] == number]
    every.sort(key=lambda entry: -entry[0])
    detected: set[tuple[int, int]] = set()
    tp, fp, precision, recall = 0, 0, [], []
    for _, image, box in every:
        best, chosen = -math.inf, -1
        for index, o in enumerate(truth[image]):
            if o["class"] != number:
                continue
            x1, y1 = max(box[0], o["box"][0]), max(box[1], o["box"][1])
            x2, y2 = min(box[2], o["box"][2]), min(box[3], o["box"][3])
            width, height = x2 - x1 + 1, y2 - y1 + 1
            if width > 0 and height > 0:
                sizes = [(b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (box, o["box"])]
                overlap = width * height / (sum(sizes) - width * height)
                if overlap > best:
                    best, chosen = overlap, index
        if best >= 0.5:
            if truth[image][chosen]["difficult"]:
                continue
            if (image, chosen) not in detected:
                detected.add((image, chosen))
                tp += 1
            else:
                fp += 1
        else:
            fp += 1
        precision.append(tp / (tp + fp))
        recall.append(tp / wanted)
    old = 0.0
    for tenth in range(11):
        old += max((p for p, r in zip(precision, recall, strict=True) if r * 10 >= tenth - 1e-9), default=0.0) / 11
    mrec, mpre = [0.0, *recall, 1.0], [0.0, *precision, 0.0]
    for i in reversed(range(len(mpre) - 1)):
        mpre[i] = max(mpre[i], mpre[i + 1])
    new = sum((mrec[i + 1] - mrec[i]) * mpre[i + 1] for i in range(len(mrec) - 1))
    return old, new


@st.composite
def boxes(draw: st.DrawFn) -> list[int]:
    """xmin, ymin, xmax, ymax counted from 1, on a coarse grid so that many overlap."""
    x, y = draw(st.integers(0, 6)) * 3 + 1, draw(st.integers(0, 6)) * 3 + 1
    return [x, y, x + draw(st.integers(2, 12)), y + draw(st.integers(2, 12))]


OBJECT = st.fixed_dictionaries({"class": st.sampled_from(sorted(NAMES)), "box": boxes(), "difficult": st.booleans()})
SCORES = st.integers(0, 20).map(lambda n: n / 20)  # equal ones are frequent
DETECTION = st.fixed_dictionaries({"class": st.sampled_from(sorted(NAMES)), "box": boxes(), "score": SCORES})
IMAGE = st.tuples(st.lists(OBJECT, max_size=6), st.lists(DETECTION, max_size=10))


def annotated(items: list[dict], detected: bool = False) -> Annotated:
    """The kit's coordinates as edges."""
    return Annotated(
        np.array([[i["box"][1] - 1, i["box"][0] - 1, i["box"][3], i["box"][2]] for i in items], float).reshape(-1, 4),
        np.array([i["class"] for i in items], int),
        np.array([i["score"] for i in items], float) if detected else None,
        difficult=np.array([i.get("difficult", False) for i in items], bool),
    )


@settings(max_examples=300, deadline=None)
@given(st.lists(IMAGE, min_size=1, max_size=5))
def test_pascal_voc_equals_the_development_kits_definition(images: list[tuple[list[dict], list[dict]]]) -> None:
    truth, found = [image[0] for image in images], [image[1] for image in images]
    scores = pascal.evaluate([annotated(o) for o in truth], [annotated(d, True) for d in found], NAMES)
    means: tuple[list[float], list[float]] = ([], [])
    for number, name in NAMES.items():
        expected = reference(truth, found, number)
        values = scores.per_class[pascal.ELEVEN][name], scores.per_class[pascal.AREA][name]
        if expected is None:
            assert values == (None, None)
            continue
        assert values == pytest.approx(expected, abs=1e-6)
        for mean, value in zip(means, expected, strict=True):
            mean.append(value)
    for convention, mean in zip((pascal.ELEVEN, pascal.AREA), means, strict=True):
        assert scores.mean[convention] == (pytest.approx(np.mean(mean), abs=1e-6) if mean else None)


@settings(max_examples=60, deadline=None)
@given(st.lists(IMAGE, min_size=1, max_size=4))
def test_coco_equals_pycocotools_reading_its_own_files(images: list[tuple[list[dict], list[dict]]]) -> None:
    """pycocotools is given what it is usually given, annotations and results as JSON has them, through its own loader."""
    truth, found = [image[0] for image in images], [image[1] for image in images]
    scores = coco.evaluate([annotated(o) for o in truth], [annotated(d, True) for d in found], NAMES)
    if not any(truth) or not any(found):
        assert all(value in (None, 0.0) for value in scores.metrics.values())
        return

    def bbox(box: list[int]) -> list[float]:
        return [box[0] - 1, box[1] - 1, box[2] - box[0] + 1, box[3] - box[1] + 1]

    objects = [(image, o) for image, items in enumerate(truth, 1) for o in items]
    with contextlib.redirect_stdout(io.StringIO()):
        target = COCO()
        target.dataset = {
            "images": [{"id": image} for image in range(1, len(images) + 1)],
            "categories": [{"id": number, "name": name} for number, name in NAMES.items()],
            "annotations": [
                {
                    "id": number,
                    "image_id": image,
                    "category_id": o["class"],
                    "bbox": bbox(o["box"]),
                    "area": math.prod(bbox(o["box"])[2:]),
                    "iscrowd": 0,
                }
                for number, (image, o) in enumerate(objects, 1)
            ],
        }
        target.createIndex()
        results = [
            {"image_id": image, "category_id": d["class"], "bbox": bbox(d["box"]), "score": d["score"]}
            for image, items in enumerate(found, 1)
            for d in items
        ]
        target.dataset.setdefault("info", {})
        evaluation = COCOeval(target, target.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    for name, value in zip(coco.METRICS, evaluation.stats, strict=True):
        assert scores.metrics[name] == (pytest.approx(value, abs=1e-6) if value >= 0 else None)


def test_the_configuration_chooses() -> None:
    text = CONFIG.read_text().replace("PATH_TO_BE_CONFIGURED", "/data")
    assert not experiment.parse(text, "x").eval.voc
    for name in ("pascal_voc_detection_metrics", "pascal_voc_metrics"):
        chosen = text.replace('metrics_set: "coco_detection_metrics"', f'metrics_set: "{name}"')
        assert experiment.parse(chosen, "x").eval.voc
    with pytest.raises(
        InputError, match='"oid_V2_detection_metrics" is not supported; supported: coco_detection_metrics, coco_metrics, pascal'
    ):
        experiment.parse(text.replace("coco_detection_metrics", "oid_V2_detection_metrics"), "x")
