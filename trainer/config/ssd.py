"""model { ssd { … } } to Model Garden's RetinaNet: the same network, losses and anchors, else the nearest, and it is said.

Model Garden's side is official/vision/configs/retinanet.py. An SSD without a feature pyramid becomes one with it.
"""

from __future__ import annotations

import re
from typing import Any

from trainer.config import layers
from trainer.config.augmentation import RETINANET
from trainer.config.layers import Layers, ModelSettings
from trainer.config.section import Section

_MOBILENETS = {"mobilenet_v1": "MobileNetV1", "mobilenet_v2": "MobileNetV2"}
_EXTRACTORS = {
    f"ssd_{name}{suffix}": model for name, model in _MOBILENETS.items() for suffix in ("", "_fpn", "_keras", "_fpn_keras")
}
_EFFICIENTNET = re.compile(r"ssd_efficientnet-(b[0-7])_bifpn(_keras)?$")
_SQUEEZE = 0.25  # EfficientNet's share of channels in squeeze and excitation (https://arxiv.org/abs/1905.11946)
_SHOWN = (
    "ssd_mobilenet_v1, ssd_mobilenet_v2, each also with _fpn, ssd_resnet50_v1_fpn, 101, 152, and ssd_efficientnet-b0_bifpn to "
    "b7; each also with _keras"
)
# Levels 2 to 5 are the backbone's feature maps, coarser ones are made by strided convolutions.
_FINEST_LEVEL, _COARSEST_LEVEL = 2, 7
# The pyramid and the heads in the place of an SSD's own layers: light as MobileNets are, or RetinaNet's.
_LIGHT = {"num_convs": 2, "num_filters": 128, "use_separable_conv": True}
_HEAVY = {"num_convs": 4, "num_filters": 256, "use_separable_conv": False}
_FOCAL = {"focal_loss_alpha": 0.25, "focal_loss_gamma": 2.0}  # https://arxiv.org/abs/1708.02002, the values of its best model


def read(ssd: Section) -> ModelSettings:
    """The whole section; what differs from Model Garden is approximated or a problem."""
    classes = layers.classes(ssd)
    extractor = ssd.required_section("feature_extractor")
    backbone = _backbone(ssd, extractor)
    light = backbone["type"] == "mobilenet"
    levels, fpn = _pyramid(ssd, extractor, light)
    height, width = layers.fixed_size(ssd.required_section("image_resizer"), 2 ** levels[1])
    keeps_aspect = ssd.section("image_resizer").has("keep_aspect_ratio_resizer")
    head, head_layers = _head(ssd.required_section("box_predictor"), light)
    network = layers.hyperparams(extractor.required_section("conv_hyperparams"))
    expected = {"factor": 1.0, "uniform": False, "mode": 0}
    layers.initializer(
        extractor.section("conv_hyperparams"), "variance_scaling_initializer", expected, "kernels are scaled by 1 / fan-in"
    )
    if head_layers is not None and head_layers[1] != network:
        head_layers[0].approximate("conv_hyperparams", "the heads' layers are as the feature extractor's")
    anchor = _anchors(ssd.required_section("anchor_generator"), levels, max(height, width))
    generator = _post_processing(ssd.required_section("post_processing"))
    parser = _targets(ssd)
    generator["box_coder_weights"] = _box_coder(ssd.required_section("box_coder"))
    losses, scale = _losses(ssd)
    _normalization_switches(ssd)
    return ModelSettings(
        kind=RETINANET,
        model={
            # Class 0 is the background, which has no targets: labels start at 1.
            "num_classes": classes + 1,
            "input_size": [height, width, 3],
            "min_level": levels[0],
            "max_level": levels[1],
            "anchor": anchor,
            "backbone": backbone,
            "decoder": {"type": "fpn", "fpn": fpn},
            "head": head,
            "detection_generator": generator,
            "norm_activation": network.norm(),
        },
        losses={**losses, "l2_weight_decay": network.decay / scale},
        # A fixed shape: width and height are each stretched to the network's.
        parser={**parser, "keep_aspect_ratio": keeps_aspect},
        classes=classes,
        max_detections=generator["max_num_detections"],
    )


def _backbone(ssd: Section, extractor: Section) -> dict[str, Any]:
    kind = extractor.required("type")
    frozen_norm = ssd.value("freeze_batchnorm") or not extractor.value("batch_norm_trainable")
    width = extractor.positive("depth_multiplier")
    extractor.nearly("pad_to_multiple", 1, "images have a fixed size")
    extractor.nearly("use_explicit_padding", False, "convolutions pad by themselves")
    extractor.without_effect("replace_preprocessor_with_placeholder", "override_base_feature_extractor_hyperparams")
    found = layers.resnet(kind, not frozen_norm)
    if found:
        extractor.without_effect("min_depth")
        if width != 1:
            found["resnet"]["depth_multiplier"] = width
        return found
    ssd.only("freeze_batchnorm", False, "batch normalization is trained but in ResNets")
    extractor.only("batch_norm_trainable", True, "batch normalization is trained but in ResNets")
    efficient = _EFFICIENTNET.match(kind)
    if efficient:
        extractor.nearly("depth_multiplier", 1.0, f"the network is as wide as EfficientNet-{efficient[1].upper()}")
        extractor.without_effect("min_depth")
        return {"type": "efficientnet", "efficientnet": {"model_id": efficient[1], "se_ratio": _SQUEEZE}}
    if kind in _EXTRACTORS and width < 1:  # wider than that, no layer is as narrow
        extractor.nearly("min_depth", 8, "the network's layers are at least 8 channels deep")
    else:
        extractor.without_effect("min_depth")
    if kind and kind not in _EXTRACTORS:
        extractor.refuse("type", f'"{kind}" is not supported: Model Garden has no such SSD; supported: {_SHOWN}')
    return {"type": "mobilenet", "mobilenet": {"model_id": _EXTRACTORS.get(kind, "MobileNetV2"), "filter_size_scale": width}}


def _pyramid(ssd: Section, extractor: Section, light: bool) -> tuple[tuple[int, int], dict[str, Any]]:
    """(finest, coarsest level) and Model Garden's FPN."""
    separable = extractor.value("use_depthwise")
    extractor.without_effect("num_layers")  # of SSD's own pyramid
    if not extractor.message.WhichOneof("feature_pyramid_oneof") and "fpn" not in extractor.value("type"):
        highest = 7 if _longest_side(ssd) >= 512 else 6
        extractor.approximate("type", f"SSD's own feature maps become a feature pyramid of the levels 3 to {highest}")
        return (3, highest), {"num_filters": _LIGHT["num_filters"] if light else 256, "use_separable_conv": light}
    kind, fpn = extractor.choice("feature_pyramid_oneof", ["fpn", "bifpn"])
    if fpn is None:
        return (3, 7), {}
    lowest, highest = fpn.value("min_level"), fpn.value("max_level")
    if not _FINEST_LEVEL <= lowest <= highest <= _COARSEST_LEVEL:
        fpn.refuse(
            "min_level" if fpn.has("min_level") else "max_level",
            f"to max_level must lie within {_FINEST_LEVEL} … {_COARSEST_LEVEL}",
        )
        return (3, 3), {}
    if kind == "bifpn":
        filters = fpn.positive("num_filters")
        done = f"Model Garden has no BiFPN: a feature pyramid of the levels {lowest} to {highest} with {filters} channels"
        extractor.approximate("bifpn", done)
        return (lowest, highest), {"num_filters": filters, "use_separable_conv": True}
    return (lowest, highest), {"num_filters": fpn.positive("additional_layer_depth"), "use_separable_conv": separable}


def _longest_side(ssd: Section) -> int:
    fixed = ssd.section("image_resizer").section("fixed_shape_resizer")
    return max(fixed.value("height"), fixed.value("width"))


def _head(predictor: Section, light: bool) -> tuple[dict[str, Any], tuple[Section, Layers] | None]:
    """Model Garden's RetinaNetHead, and the section with the layers' settings that it was read from."""
    kind, option = predictor.choice(
        "box_predictor_oneof", ["weight_shared_convolutional_box_predictor", "convolutional_box_predictor"]
    )
    if option is None:
        return {}, None
    if kind == "convolutional_box_predictor":
        head = dict(_LIGHT if light else _HEAVY)
        done = f"heads of {head['num_convs']} convolutions of {head['num_filters']} filters, shared by all levels"
        predictor.approximate("convolutional_box_predictor", done)
        return head, None
    option.nearly("kernel_size", 3, "the heads' kernels are 3 × 3")
    option.only("box_code_size", 4, "a box has 4 numbers")
    option.nearly("class_prediction_bias_init", -4.6, "classes start at a probability of 0.01")
    option.nearly("use_dropout", False, "the heads have no dropout")
    option.nearly("share_prediction_tower", False, "classes and boxes have a tower each")
    option.nearly("score_converter", 0, "scores are converted in post_processing")
    option.without_effect("dropout_keep_probability")
    section = option.required_section("conv_hyperparams")
    settings = layers.hyperparams(section)
    layers.initializer(
        section, "random_normal_initializer", {"mean": 0.0, "stddev": 0.01}, "kernels start around 0, with a deviation of 0.01"
    )
    return {
        "num_convs": option.value("num_layers_before_predictor"),
        "num_filters": option.positive("depth"),
        "use_separable_conv": option.value("use_depthwise"),
    }, (option, settings)


def _anchors(generator: Section, levels: tuple[int, int], side: int) -> dict[str, Any]:
    kind, option = generator.choice("anchor_generator_oneof", ["multiscale_anchor_generator", "ssd_anchor_generator"])
    if option is None:
        return {}
    ratios = option.required("aspect_ratios")
    if any(ratio <= 0 for ratio in ratios):
        option.refuse("aspect_ratios", "must be above 0")
    if kind == "ssd_anchor_generator":
        option.without_effect(
            "num_layers", "min_scale", "reduce_boxes_in_lowest_layer", "interpolated_scale_aspect_ratio",
            "height_stride", "width_stride", "height_offset", "width_offset",
        )  # fmt: skip
        if option.has("scales"):
            option.refuse("scales", "are not supported; supported: min_scale and max_scale")
        # The largest anchor, on the coarsest level, is as large as SSD's; the other sizes lie half an octave apart below it.
        size = option.positive("max_scale") * side / 2 ** (levels[1] + 0.5)
        least, largest = size * 2 ** levels[0], option.value("max_scale") * side
        option.approximate("max_scale", f"two anchor sizes on each level, from {least:.0f} to {largest:.0f} pixels")
        for name in ("base_anchor_height", "base_anchor_width"):
            option.nearly(name, 1.0, "anchors are as large in both directions")
        return {"anchor_size": size, "aspect_ratios": ratios, "num_scales": 2}
    for name, level in zip(("min_level", "max_level"), levels, strict=True):
        if option.value(name) != level:
            option.refuse(name, f"{option.shown(name)} differs from the feature extractor's fpn.{name} {level}")
    option.without_effect("normalize_coordinates")  # boxes are the same in pixels
    return {
        "anchor_size": option.positive("anchor_scale"),
        "aspect_ratios": ratios,
        "num_scales": option.positive("scales_per_octave"),
    }


def _post_processing(section: Section) -> dict[str, Any]:
    nms = layers.post_processing(section, 1, "scores are sigmoids of the outputs")
    agnostic = nms.value("use_class_agnostic_nms")
    # TensorFlow's combined operation, in C++; where classes are not told apart, Model Garden has it in Python's graph only.
    return {
        "nms_version": "v2" if agnostic else "batched",
        "use_class_agnostic_nms": agnostic,
        **layers.suppression(nms),
    }


def _targets(ssd: Section) -> dict[str, Any]:
    ssd.required_section("similarity_calculator").choice("region_similarity", ["iou_similarity"])
    _, matcher = ssd.required_section("matcher").choice("matcher_oneof", ["argmax_matcher"])
    if matcher is None:
        return {}
    matcher.only("ignore_thresholds", False, "anchors are matched by thresholds")
    matcher.nearly("negatives_lower_than_unmatched", True, "anchors below the unmatched threshold are the negatives")
    matcher.nearly("force_match_for_each_row", True, "each object gets at least its best anchor")
    matcher.without_effect("use_matmul_gather")
    return {"match_threshold": matcher.value("matched_threshold"), "unmatched_threshold": matcher.value("unmatched_threshold")}


def _box_coder(section: Section) -> list[float] | None:
    """[y, x, height, width] scales"""
    _, coder = section.choice("box_coder_oneof", ["faster_rcnn_box_coder"])
    if coder is None:
        return None
    return [coder.positive(name) for name in ("y_scale", "x_scale", "height_scale", "width_scale")]


def _losses(ssd: Section) -> tuple[dict[str, Any], float]:
    """Model Garden's Losses, and what they multiply the regularization with."""
    loss = ssd.required_section("loss")
    if loss.has("hard_example_miner"):
        loss.approximate("hard_example_miner", "focal loss weighs easy examples down instead")
    loss.without_effect("min_num_negative_samples", "desired_negative_sampling_ratio")
    scale = loss.positive("classification_weight")
    # Huber's loss is the mean over a box's 4 numbers: without that normalization it counts 4 times.
    weight = loss.value("localization_weight") * (1 if ssd.value("normalize_loc_loss_by_codesize") else 4) / scale
    settings: dict[str, Any] = {"box_loss_weight": weight}
    if scale != 1:
        settings["loss_weight"] = scale
    section = loss.required_section("classification_loss")
    kind, option = section.choice(
        "classification_loss", ["weighted_sigmoid_focal", "weighted_sigmoid", "weighted_softmax", "bootstrapped_sigmoid"]
    )
    if option is not None and kind == "weighted_sigmoid_focal":
        option.without_effect("anchorwise_output")
        settings |= {
            "focal_loss_alpha": option.required("alpha", "for example alpha: 0.25"),
            "focal_loss_gamma": option.value("gamma"),
        }
    elif option is not None:
        section.approximate(kind, "focal loss with alpha 0.25 and gamma 2")
        settings |= _FOCAL
    _, smooth = loss.required_section("localization_loss").choice("localization_loss", ["weighted_smooth_l1"])
    if smooth:
        smooth.without_effect("anchorwise_output")
        settings["huber_loss_delta"] = smooth.positive("delta")
    return settings, scale


def _normalization_switches(ssd: Section) -> None:
    ssd.nearly("encode_background_as_zeros", True, "the background has no class of its own")
    ssd.nearly("normalize_loss_by_num_matches", True, "losses are divided by the number of matched anchors")
    ssd.without_effect("inplace_batchnorm_update", "add_background_class")
