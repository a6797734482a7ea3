"""data_augmentation_options to what Model Garden's parsers can do (official/vision/configs/{retinanet,maskrcnn}.py)."""

from __future__ import annotations

from typing import Any

from trainer.config.section import Section

RETINANET, FASTER_RCNN = "retinanet", "faster_rcnn"
_BOTH = ("random_horizontal_flip", "random_image_scale", "random_scale_crop_and_pad_to_square", "autoaugment_image")
_SUPPORTED = {
    RETINANET: (*_BOTH, "ssd_random_crop", "random_crop_image", "random_jpeg_quality"),
    FASTER_RCNN: (*_BOTH, "random_vertical_flip"),
}


def read(train_config: Section, kind: str) -> dict[str, Any]:
    """Fields of Model Garden's Parser for a model of the kind."""
    parser: dict[str, Any] = {}
    if kind not in _SUPPORTED:  # the model is not supported, which is reported
        train_config.without_effect("data_augmentation_options")
        return parser
    for step in train_config.sections("data_augmentation_options"):
        name, option = step.choice("preprocessing_step", _SUPPORTED[kind])
        if option is not None:
            _READERS[name](option, step, parser)
    return parser


def _horizontal(option: Section, _: Section, parser: dict[str, Any]) -> None:
    option.nearly("probability", 0.5, "images are flipped half of the time")
    parser["aug_rand_hflip"] = True


def _vertical(option: Section, _: Section, parser: dict[str, Any]) -> None:
    option.nearly("probability", 0.5, "images are flipped half of the time")
    parser["aug_rand_vflip"] = True


def _scale(option: Section, _: Section, parser: dict[str, Any]) -> None:
    parser |= {"aug_scale_min": option.positive("min_scale_ratio"), "aug_scale_max": option.positive("max_scale_ratio")}


def _scale_and_crop(option: Section, _: Section, parser: dict[str, Any]) -> None:
    option.without_effect("output_size")  # image_resizer's
    parser |= {"aug_scale_min": option.positive("scale_min"), "aug_scale_max": option.positive("scale_max")}


def _ssd_crop(option: Section, step: Section, parser: dict[str, Any]) -> None:
    if option.has("operations"):
        step.approximate("ssd_random_crop", "the crops are those of the SSD paper, whatever operations say")
    _set_augmenter(step, "ssd_random_crop", parser, {"type": "ssd_random_crop"})


def _crop(option: Section, step: Section, parser: dict[str, Any]) -> None:
    keep = option.value("random_coef")
    crop = {
        "min_object_covered": option.value("min_object_covered"),
        "min_box_overlap": option.value("overlap_thresh"),
        "prob_to_apply": 1.0 - keep,
    }
    settings = {
        "ssd_random_crop_params": [crop],
        "aspect_ratio_range": [option.positive("min_aspect_ratio"), option.positive("max_aspect_ratio")],
        "area_range": [option.positive("min_area"), option.positive("max_area")],
    }
    option.only("clip_boxes", True, "boxes are clipped to the image")
    _set_augmenter(step, "random_crop_image", parser, {"type": "ssd_random_crop", "ssd_random_crop": settings})


def _autoaugment(option: Section, step: Section, parser: dict[str, Any]) -> None:
    augmenter = {"type": "autoaug", "autoaug": {"augmentation_name": option.value("policy_name")}}
    _set_augmenter(step, "autoaugment_image", parser, augmenter)


def _jpeg(option: Section, _: Section, parser: dict[str, Any]) -> None:
    parser["aug_rand_jpeg"] = {
        "min_quality": option.value("min_jpeg_quality"),
        "max_quality": option.value("max_jpeg_quality"),
        "prob_to_apply": 1.0 - option.value("random_coef"),
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
    "ssd_random_crop": _ssd_crop,
    "random_crop_image": _crop,
    "autoaugment_image": _autoaugment,
    "random_jpeg_quality": _jpeg,
}
