"""Detects objects in image files with an exported model, draws and prints them: `odcloud predict MODEL IMAGE…`."""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer import arguments, files, paths, runtime
from trainer.data import label_map
from trainer.errors import InputError

_MAX_PIXELS = 50_000_000
_LONG, _SHORT = 1600, 640  # pixels: the longer side of a drawing is between them
_DPI = 110


def main(argv: Sequence[str] | None = None) -> int:
    """Predicts; the exit code."""
    return arguments.run(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    parser = arguments.Parser("odcloud predict", "Detects objects in image files with an exported model.")
    parser.add_argument("model", metavar="MODEL", help="folder that `odcloud export` made, here or gs://")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="an image file, here or gs://")
    parser.add_argument("--output", metavar="DIR", default="predictions", help="where drawings go (default: predictions)")
    parser.add_argument("--min-score", type=float, default=0.3, metavar="S", help="least score of a detection (default: 0.3)")
    arguments.add_format(parser)
    options = parser.parse_args(argv)
    found = predict(options.model, options.images, options.output, options.min_score)
    if options.format == "json":
        print(json.dumps({"model": options.model, "images": found}))
        return 0
    for image in found:
        print(
            f"{image['file']} ({image['width']}×{image['height']}): {len(image['detections'])} found, drawn in {image['drawn']}"
        )
        for item in image["detections"]:
            ymin, xmin, ymax, xmax = item["box"]
            print(f"  {item['score']:.3f}  {item['class']:20} x {xmin:.0f}–{xmax:.0f}  y {ymin:.0f}–{ymax:.0f}")
    return 0


def predict(model: str, images: Sequence[str], output: str, min_score: float) -> list[dict[str, Any]]:
    """For each image {"file", "width", "height", "detections": [{"class", "id", "score", "box"}], "drawn"}.

    Boxes are ymin, xmin, ymax, xmax in pixels, best score first.
    Raises InputError: no such model, an image that can't be read, no place for drawings.
    """
    if not 0 <= min_score <= 1:
        raise InputError(f"--min-score {min_score:g}: must be from 0 to 1")
    folder = Path(paths.resolve(model))
    if not (folder / "saved_model.pb").is_file():
        raise InputError(f"{model}: is no exported model; make one with `odcloud export RUN {model}`")
    names = label_map.read(str(folder / "assets/label_map.pbtxt"))
    pictures = [read_image(path) for path in images]  # before TensorFlow is loaded: mistakes show at once
    runtime.prepare()
    import tensorflow as tf

    runtime.quiet_logging()
    try:
        infer = tf.saved_model.load(str(folder)).signatures["serving_default"]
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        raise InputError(f"{model}: cannot be loaded: {str(error).splitlines()[0][:200]}; export it again") from error
    taken: set[str] = set()
    result = []
    for path, picture in zip(images, pictures, strict=True):
        found = {name: value.numpy()[0] for name, value in infer(inputs=tf.constant(picture[None])).items()}
        detections = _detections(found, picture.shape, names, min_score)
        drawn = Path(output) / _free_name(Path(path).stem, taken)
        _write(drawn, draw(picture, detections, names))
        height, width = picture.shape[:2]
        result.append({"file": path, "width": width, "height": height, "detections": detections, "drawn": str(drawn)})
    return result


def read_image(path: str) -> NDArray[np.uint8]:
    """(height, width, 3), upright. Raises InputError."""
    from PIL import Image, ImageOps

    try:
        with Image.open(paths.resolve(path)) as file:
            if file.width * file.height > _MAX_PIXELS:
                raise InputError(f"{path}: has {file.width}×{file.height} pixels, {_MAX_PIXELS} are allowed; make it smaller")
            return np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except Exception as error:  # Pillow raises whatever a damaged file makes it meet
        raise InputError(f"{path}: cannot be read as an image: {error or type(error).__name__}") from error


def _detections(
    found: Mapping[str, NDArray], shape: tuple[int, ...], names: Mapping[int, str], min_score: float
) -> list[dict[str, Any]]:
    height, width = shape[:2]
    result = []
    for index in range(int(found["num_detections"])):
        score, number = float(found["detection_scores"][index]), int(found["detection_classes"][index])
        if score >= min_score:
            box = (found["detection_boxes"][index] * [height, width, height, width]).round(2).tolist()
            result.append({"class": names.get(number, str(number)), "id": number, "score": round(score, 5), "box": box})
    return sorted(result, key=lambda item: -item["score"])


def draw(picture: NDArray[np.uint8], detections: Sequence[Mapping[str, Any]], names: Mapping[int, str]) -> bytes:
    """The image with its boxes as PNG, enlarged or reduced so that labels can be read."""
    from matplotlib.figure import Figure

    from trainer import drawing

    height, width = picture.shape[:2]
    scale = min(_LONG, max(_SHORT, height, width)) / max(height, width)
    size = (max(1, math.ceil(width * scale)) / _DPI, max(1, math.ceil(height * scale)) / _DPI)
    figure = Figure(figsize=size, dpi=_DPI)
    item = {
        "image": picture,
        "boxes": [np.asarray(found["box"]) for found in detections],
        "classes": [found["id"] for found in detections],
        "scores": [found["score"] for found in detections],
    }
    drawing.draw_boxes(figure.add_axes((0, 0, 1, 1)), item, names)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _free_name(stem: str, taken: set[str]) -> str:
    name, number = f"{stem}.png", 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}.png"
    taken.add(name)
    return name


def _write(path: Path, content: bytes) -> None:
    try:
        files.write_bytes(str(path), content)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}; choose another with --output") from error


if __name__ == "__main__":
    sys.exit(main())
