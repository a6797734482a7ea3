"""data_augmentation_options to what Model Garden's parsers can do (official/vision/configs/{retinanet,maskrcnn}.py).

Changes of colours, which these cannot do, are made by trainer.colours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from trainer.config.section import Section

RETINANET, FASTER_RCNN = "retinanet", "faster_rcnn"
_BOTH = (
    "random_horizontal_flip", "random_image_scale", "random_scale_crop_and_pad_to_square", "random_square_crop_by_scale",
)  # fmt: skip
_SUPPORTED = {
    # Faster R-CNN's parser does AutoAugment to the image alone: the boxes would stay where they were.
    RETINANET: (*_BOTH, "autoaugment_image", "ssd_random_crop", "random_crop_image", "random_jpeg_quality"),
    FASTER_RCNN: (*_BOTH, "random_vertical_flip"),
}


class Colour(NamedTuple):
    """A change of an image's colours. values: the least and the largest amount, or what the kind needs."""

    kind: str
    values: tuple[float, ...]


# color_ordering of random_distort_color
_DISTORTIONS = {
    0: ("brightness", "saturation", "hue", "contrast"),
    1: ("brightness", "contrast", "saturation", "hue"),
}
_DISTORTION = {"brightness": (32 / 255,), "saturation": (0.5, 1.5), "hue": (0.2,), "contrast": (0.5, 1.5)}


class Augmentation(NamedTuple):
    """parser: fields of Model Garden's Parser; colours: in the order of the file."""

    parser: dict[str, Any]
    colours: tuple[Colour, ...]


def read(train_config: Section, kind: str) -> Augmentation:
    """What is done with the training images of a model of the kind."""
    parser: dict[str, Any] = {}
    colours: list[Colour] = []
    if kind not in _SUPPORTED:  # the model is not supported, which is reported
        train_config.without_effect("data_augmentation_options")
        return Augmentation(parser, ())
    for step in train_config.sections("data_augmentation_options"):
        name, option = step.choice("preprocessing_step", (*_SUPPORTED[kind], *_COLOURS))
        if option is None:
            continue
        if name in _COLOURS:
            colours += _COLOURS[name](option)
        else:
            _READERS[name](option, step, parser)
    return Augmentation(parser, tuple(colours))


def _between(kind: str, lowest: str, highest: str) -> Callable[[Section], list[Colour]]:
    def read_range(option: Section) -> list[Colour]:
        low, high = option.value(lowest), option.value(highest)
        if not 0 <= low <= high:
            option.refuse(lowest, f"{low:g} must be from 0 to {highest} {high:g}")
        return [Colour(kind, (low, high))]

    return read_range


def _up_to(kind: str, name: str, most: float) -> Callable[[Section], list[Colour]]:
    return lambda option: [Colour(kind, (_within(option, name, most),))]


def _within(option: Section, name: str, most: float = 1.0) -> float:
    value = float(option.value(name))
    if not 0 <= value <= most:
        option.refuse(name, f"{value:g} must be from 0 to {most:g}")
    return value


def _range(option: Section, lowest: str, highest: str, most: float = math.inf) -> tuple[float, float]:
    """Two numbers above 0, the first at most the second."""
    low, high = option.positive(lowest), option.value(highest)
    if not low <= high:
        option.refuse(lowest, f"{low:g} must be at most {highest} {high:g}")
    if high > most:
        option.refuse(highest, f"{high:g} must be at most {most:g}")
    return low, high


def _gamma(option: Section) -> list[Colour]:
    return [Colour("gamma", (option.positive("gamma"), option.positive("gain")))]


def _distort(option: Section) -> list[Colour]:
    ordering = option.value("color_ordering")
    if ordering not in _DISTORTIONS:
        option.refuse("color_ordering", f"{ordering} must be 0 or 1")
    return [Colour(kind, _DISTORTION[kind]) for kind in _DISTORTIONS.get(ordering, ())]


def _horizontal(option: Section, _: Section, parser: dict[str, Any]) -> None:
    option.nearly("probability", 0.5, "images are flipped half of the time")
    option.without_effect("keypoint_flip_permutation")  # boxes are detected, no keypoints
    parser["aug_rand_hflip"] = True


def _vertical(option: Section, _: Section, parser: dict[str, Any]) -> None:
    option.nearly("probability", 0.5, "images are flipped half of the time")
    option.without_effect("keypoint_flip_permutation")  # boxes are detected, no keypoints
    parser["aug_rand_vflip"] = True


def _scale(option: Section, step: Section, parser: dict[str, Any]) -> None:
    """The image's size before the resizer, which undoes it, is all that the Object Detection API changes."""
    _set_scale(option, "min_scale_ratio", "max_scale_ratio", parser)
    done = "objects become so much larger or smaller: images are cropped anywhere above 1, and padded below"
    step.approximate("random_image_scale", done)


def _square_crop(option: Section, step: Section, parser: dict[str, Any]) -> None:
    """A square of `scale` times the longer side becomes the network's image: its objects are 1 / `scale` as large."""
    least, most = _range(option, "scale_min", "scale_max")
    option.without_effect("max_border", "num_scales")
    if not 0 < least <= most:
        return
    parser |= {"aug_scale_min": 1 / most, "aug_scale_max": 1 / least}
    step.approximate(
        "random_square_crop_by_scale",
        f"images are scaled by {1 / most:.2f} to {1 / least:.2f}, and cropped or padded anywhere",
    )


def _scale_and_crop(option: Section, _: Section, parser: dict[str, Any]) -> None:
    option.without_effect("output_size")  # image_resizer's
    _set_scale(option, "scale_min", "scale_max", parser)


def _set_scale(option: Section, lowest: str, highest: str, parser: dict[str, Any]) -> None:
    parser["aug_scale_min"], parser["aug_scale_max"] = _range(option, lowest, highest)


def _ssd_crop(option: Section, step: Section, parser: dict[str, Any]) -> None:
    if option.has("operations"):
        option.approximate("operations", "the crops are those of the SSD paper")
    _set_augmenter(step, "ssd_random_crop", parser, {"type": "ssd_random_crop"})


def _crop(option: Section, step: Section, parser: dict[str, Any]) -> None:
    crop = {
        "min_object_covered": _within(option, "min_object_covered"),
        "min_box_overlap": _within(option, "overlap_thresh"),
        "prob_to_apply": 1.0 - _within(option, "random_coef"),
    }
    settings = {
        "ssd_random_crop_params": [crop],
        "aspect_ratio_range": [*_range(option, "min_aspect_ratio", "max_aspect_ratio")],
        "area_range": [*_range(option, "min_area", "max_area", 1.0)],
    }
    option.only("clip_boxes", True, "boxes are clipped to the image")
    _set_augmenter(step, "random_crop_image", parser, {"type": "ssd_random_crop", "ssd_random_crop": settings})


def _autoaugment(option: Section, step: Section, parser: dict[str, Any]) -> None:
    # The others of Model Garden are for classification: they move what is in the image, and not the boxes.
    option.only("policy_name", "v0", "of AutoAugment's policies for detection Model Garden has v0 alone")
    augmenter = {"type": "autoaug", "autoaug": {"augmentation_name": "detection_v0"}}
    _set_augmenter(step, "autoaugment_image", parser, augmenter)


def _jpeg(option: Section, _: Section, parser: dict[str, Any]) -> None:
    low, high = option.value("min_jpeg_quality"), option.value("max_jpeg_quality")
    if not 0 <= low < high <= 100:  # the highest is never drawn
        option.refuse("min_jpeg_quality", f"{low} must be from 0 to below max_jpeg_quality {high}, and that at most 100")
    parser["aug_rand_jpeg"] = {
        "min_quality": low,
        "max_quality": high,
        "prob_to_apply": 1.0 - _within(option, "random_coef"),
    }


def _set_augmenter(step: Section, name: str, parser: dict[str, Any], augmenter: dict[str, Any]) -> None:
    if "aug_type" in parser:
        step.refuse(name, f"is not supported beside {parser['aug_type']['type']}: Model Garden does one of them; keep one")
    parser["aug_type"] = augmenter


_READERS = {
    "random_horizontal_flip": _horizontal,
    "random_vertical_flip": _vertical,
    "random_image_scale": _scale,
    "random_scale_crop_and_pad_to_square": _scale_and_crop,
    "random_square_crop_by_scale": _square_crop,
    "ssd_random_crop": _ssd_crop,
    "random_crop_image": _crop,
    "autoaugment_image": _autoaugment,
    "random_jpeg_quality": _jpeg,
}
_COLOURS = {
    "random_pixel_value_scale": _between("pixels", "minval", "maxval"),
    "random_rgb_to_gray": _up_to("gray", "probability", 1.0),
    "random_adjust_brightness": _up_to("brightness", "max_delta", 1.0),
    "random_adjust_contrast": _between("contrast", "min_delta", "max_delta"),
    "random_adjust_hue": _up_to("hue", "max_delta", 0.5),
    "random_adjust_saturation": _between("saturation", "min_delta", "max_delta"),
    "random_distort_color": _distort,
    "adjust_gamma": _gamma,
}
