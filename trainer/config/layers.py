"""What both kinds of model have in common: backbones, normalization and regularization, image size, non-maximum suppression."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from trainer.config.section import Section

_ACTIVATIONS = {0: "linear", 1: "relu", 2: "relu6", 3: "swish"}


@dataclass(frozen=True)
class ModelSettings:
    """The parts of Model Garden's task that the model section decides, as nested dicts."""

    kind: str  # of the task: retinanet or faster_rcnn
    model: dict[str, Any]
    losses: dict[str, Any]
    parser: dict[str, Any]
    classes: int
    max_detections: int


@dataclass(frozen=True)
class Layers:
    """How a network's layers are normalized, activated and regularized: in Model Garden alike throughout."""

    activation: str
    momentum: float
    epsilon: float
    decay: float  # weight of the L2 regularizer

    def norm(self) -> dict[str, Any]:
        """Model Garden's NormActivation."""
        return {
            "activation": self.activation,
            "use_sync_bn": False,
            "norm_momentum": self.momentum,
            "norm_epsilon": self.epsilon,
        }


def classes(model: Section) -> int:
    """num_classes"""
    number: int = model.required("num_classes")
    if model.has("num_classes") and number < 1:
        model.refuse("num_classes", "must be at least 1")
    return number


def resnet(kind: str, trainable_norm: bool) -> dict[str, Any] | None:
    """Model Garden's ResNet that a feature extractor's type names; None if it names none."""
    found = re.search(r"_resnet_?(50|101|152)(_v1)?(_fpn)?(_keras)?$", kind)
    if not found:
        return None
    return {"type": "resnet", "resnet": {"model_id": int(found[1]), "bn_trainable": trainable_norm}}


def hyperparams(section: Section) -> Layers:
    """conv_hyperparams or fc_hyperparams"""
    section.without_effect("op")  # as the layer is
    section.nearly("regularize_depthwise", False, "depthwise kernels are not regularized")
    section.nearly("force_use_bias", False, "biases are Model Garden's")
    decay = 0.0
    if section.has("regularizer"):
        _, l2 = section.section("regularizer").choice("regularizer_oneof", ["l2_regularizer"])
        decay = l2.value("weight") if l2 else 0.0
    activation = _ACTIVATIONS[section.value("activation")]
    if not section.message.WhichOneof("normalizer_oneof"):
        return Layers(activation, 0.99, 0.001, decay)
    _, norm = section.choice("normalizer_oneof", ["batch_norm"])
    if norm is None:
        return Layers(activation, 0.99, 0.001, decay)
    norm.nearly("center", True, "batch normalization learns an offset")
    norm.nearly("scale", True, "batch normalization learns a scale")
    norm.nearly("train", True, "batch normalization is trained; freeze_variables or batch_norm_trainable keep it as it is")
    return Layers(activation, norm.value("decay"), norm.value("epsilon"), decay)


def initializer(section: Section, kind: str, expected: dict[str, Any], done: str) -> None:
    """An initializer: approximated unless it is what Model Garden starts with."""
    if not section.has("initializer"):
        return
    given = section.section("initializer")
    chosen = given.message.WhichOneof("initializer_oneof")
    if chosen != kind:
        section.approximate("initializer", done)
        return
    settings = given.section(kind)
    for name, value in expected.items():
        settings.nearly(name, value, done)


def fixed_size(resizer: Section, stride: int) -> tuple[int, int]:
    """(height, width) of the network's images, multiples of the stride of its coarsest level."""
    kind, option = resizer.choice("image_resizer_oneof", ["fixed_shape_resizer", "keep_aspect_ratio_resizer"])
    if option is None:
        return stride, stride
    option.nearly("resize_method", 0, "images are resized bilinearly")
    option.only("convert_to_grayscale", False, "the network takes colour images")
    if kind == "keep_aspect_ratio_resizer":
        return _square(option, stride)
    sizes = []
    for name in ("height", "width"):
        size = option.positive(name)
        sizes.append(_nearest(size, stride))
        if size % stride:
            option.approximate(name, f"{sizes[-1]}, a multiple of {stride}, the stride of the pyramid's coarsest level")
    return sizes[0], sizes[1]


def _square(option: Section, stride: int) -> tuple[int, int]:
    option.without_effect("per_channel_pad_value")
    shortest, longest = option.positive("min_dimension"), option.positive("max_dimension")
    side = _nearest(longest, stride)
    done = f"the longer side is scaled to {side} pixels, the shorter one padded to it"
    if longest != shortest or longest % stride:
        option.approximate("min_dimension", done)
    if not option.value("pad_to_max_dimension"):
        option.approximate("pad_to_max_dimension", done)
    return side, side


def _nearest(size: int, stride: int) -> int:
    """The nearest multiple of the stride; of two the larger, which shows more of small objects."""
    return max(stride, (2 * size + stride) // (2 * stride) * stride)


def suppression(section: Section) -> dict[str, Any]:
    """batch_non_max_suppression"""
    per_class, total = section.positive("max_detections_per_class"), section.positive("max_total_detections")
    if per_class < total:
        section.approximate("max_detections_per_class", f"up to max_total_detections ({total}) of a class")
    section.nearly("soft_nms_sigma", 0.0, "overlapping boxes are dropped, not scored lower")
    section.without_effect(
        "use_static_shapes", "use_partitioned_nms", "use_combined_nms", "use_cpu_nms", "max_classes_per_detection",
        "change_coordinate_frame", "use_hard_nms",
    )  # fmt: skip
    return {
        "pre_nms_score_threshold": section.value("score_threshold"),
        "nms_iou_threshold": section.value("iou_threshold"),
        "max_num_detections": total,
    }


def post_processing(section: Section, converter: int, done: str) -> Section:
    """Checks a post_processing section's score converter; its batch_non_max_suppression."""
    section.nearly("score_converter", converter, done)
    section.nearly("logit_scale", 1.0, "outputs are not scaled")
    return section.required_section("batch_non_max_suppression")
