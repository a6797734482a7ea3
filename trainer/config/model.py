"""model { ssd { … } } to Model Garden's RetinaNet: the same network, losses and anchors, or an error that says what differs.

Model Garden's side is official/vision/configs/retinanet.py; where it computes in one way only, that is the one accepted value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainer.config.section import Section

_BACKBONES = {"ssd_mobilenet_v2_fpn": "MobileNetV2", "ssd_mobilenet_v2_fpn_keras": "MobileNetV2"}
# Levels 2 to 5 are the backbone's feature maps, coarser ones are made by strided convolutions.
_FINEST_LEVEL, _COARSEST_LEVEL = 2, 7


@dataclass(frozen=True)
class ModelSettings:
    """The parts of Model Garden's RetinaNetTask that the model section decides, as nested dicts."""

    model: dict[str, Any]
    losses: dict[str, Any]
    parser: dict[str, Any]
    classes: int
    max_detections: int


def read(detection_model: Section) -> ModelSettings | None:
    """None, with a problem reported, when the model is none of the supported ones."""
    _, ssd = detection_model.choice("model", ["ssd"])
    if ssd is None:
        return None
    classes = ssd.required("num_classes")
    if ssd.has("num_classes") and classes < 1:
        ssd.refuse("num_classes", "must be at least 1")
    height, width = _image_size(ssd.required_section("image_resizer"))
    extractor = ssd.required_section("feature_extractor")
    head = ssd.required_section("box_predictor")
    backbone = _backbone(extractor)
    levels, fpn = _pyramid(extractor)
    norm, weight_decay = _layers(extractor, head)
    anchor = _anchors(ssd.required_section("anchor_generator"), levels)
    _check_size(ssd.section("image_resizer"), height, width, levels[1])
    head_settings = _head(head)
    generator = _post_processing(ssd.required_section("post_processing"))
    parser = _targets(ssd)
    generator["box_coder_weights"] = _box_coder(ssd.required_section("box_coder"))
    losses = _losses(ssd)
    _normalization_switches(ssd)
    return ModelSettings(
        model={
            # Class 0 is the background, which has no targets: labels start at 1.
            "num_classes": classes + 1,
            "input_size": [height, width, 3],
            "min_level": levels[0],
            "max_level": levels[1],
            "anchor": anchor,
            "backbone": {"type": "mobilenet", "mobilenet": backbone},
            "decoder": {"type": "fpn", "fpn": fpn},
            "head": head_settings,
            "detection_generator": generator,
            "norm_activation": norm,
        },
        losses={**losses, "l2_weight_decay": weight_decay},
        parser=parser,
        classes=classes,
        max_detections=generator["max_num_detections"],
    )


def _image_size(resizer: Section) -> tuple[int, int]:
    _, fixed = resizer.choice("image_resizer_oneof", ["fixed_shape_resizer"])
    if fixed is None:
        return 0, 0
    fixed.only("resize_method", 0, "images are resized bilinearly")
    fixed.only("convert_to_grayscale", False, "the network takes colour images")
    return fixed.positive("height"), fixed.positive("width")


def _check_size(resizer: Section, height: int, width: int, max_level: int) -> None:
    if not resizer.has("fixed_shape_resizer"):
        return
    stride = 2**max_level
    for name, size in (("height", height), ("width", width)):
        if size % stride:
            resizer.section("fixed_shape_resizer").refuse(
                name,
                f"{size} is not supported: it must be a multiple of {stride}, the stride of the pyramid's level {max_level}",
            )


def _backbone(extractor: Section) -> dict[str, Any]:
    kind = extractor.required("type")
    if kind and kind not in _BACKBONES:
        extractor.refuse("type", f'"{kind}" is not supported; supported: {", ".join(_BACKBONES)}')
    width = extractor.positive("depth_multiplier")
    if width < 1:  # wider than that, no layer is as narrow
        extractor.only("min_depth", 8, "Model Garden's MobileNetV2 is at least 8 channels deep in each layer")
    else:
        extractor.without_effect("min_depth")
    extractor.only("pad_to_multiple", 1, "images have a fixed size")
    extractor.only("use_explicit_padding", False, "convolutions pad by themselves")
    extractor.only("replace_preprocessor_with_placeholder", False, "images are normalized in the input pipeline")
    extractor.without_effect("num_layers")  # of SSD's own pyramid, not of an FPN
    return {"model_id": _BACKBONES.get(kind, "MobileNetV2"), "filter_size_scale": width}


def _pyramid(extractor: Section) -> tuple[tuple[int, int], dict[str, Any]]:
    separable = extractor.value("use_depthwise")
    _, fpn = extractor.choice("feature_pyramid_oneof", ["fpn"])
    if fpn is None:
        return (3, 7), {}
    lowest, highest = fpn.value("min_level"), fpn.value("max_level")
    if not _FINEST_LEVEL <= lowest <= highest <= _COARSEST_LEVEL:
        fpn.refuse(
            "min_level" if fpn.has("min_level") else "max_level",
            f"to max_level must lie within {_FINEST_LEVEL} … {_COARSEST_LEVEL}",
        )
        return (3, 3), {}
    return (lowest, highest), {"num_filters": fpn.positive("additional_layer_depth"), "use_separable_conv": separable}


def _layers(extractor: Section, predictor: Section) -> tuple[dict[str, Any], float]:
    """Normalization and weight decay: one setting for the whole network, so the sections must agree."""
    extractor.only(
        "override_base_feature_extractor_hyperparams", True, "backbone, pyramid and heads are normalized and regularized alike"
    )
    shared = predictor.section("weight_shared_convolutional_box_predictor")
    first = _hyperparams(extractor.required_section("conv_hyperparams"), _pyramid_initializer)
    second = _hyperparams(shared.required_section("conv_hyperparams"), _head_initializer)
    if first != second:
        shared.refuse(
            "conv_hyperparams", "differ from the feature extractor's in regularizer or batch_norm; give both the same values"
        )
    momentum, epsilon, decay = first
    return {"activation": "relu6", "use_sync_bn": False, "norm_momentum": momentum, "norm_epsilon": epsilon}, decay


def _hyperparams(section: Section, check_initializer: Any) -> tuple[float, float, float]:
    """(batch norm's decay, its epsilon, weight of the L2 regularizer)"""
    section.only("op", 1, "the layers are convolutions")
    section.only("activation", 2, "MobileNetV2's activation is used throughout")
    section.only("regularize_depthwise", False, "depthwise kernels are not regularized")
    section.only("force_use_bias", False, "biases are Model Garden's")
    decay = 0.0
    if section.has("regularizer"):
        _, l2 = section.section("regularizer").choice("regularizer_oneof", ["l2_regularizer"])
        decay = l2.value("weight") if l2 else 0.0
    if section.has("initializer"):
        check_initializer(section.section("initializer"))
    _, norm = section.choice("normalizer_oneof", ["batch_norm"])
    if norm is None:
        return 0.99, 0.001, decay
    norm.only("center", True, "batch normalization learns an offset")
    norm.only("scale", True, "batch normalization learns a scale")
    norm.only("train", True, "batch normalization is trained")
    return norm.value("decay"), norm.value("epsilon"), decay


def _head_initializer(section: Section) -> None:
    _, normal = section.choice("initializer_oneof", ["random_normal_initializer"])
    if normal:
        normal.only("mean", 0.0, "the heads' kernels start around 0")
        normal.only("stddev", 0.01, "the heads' kernels start with a deviation of 0.01")


def _pyramid_initializer(section: Section) -> None:
    _, scaling = section.choice("initializer_oneof", ["variance_scaling_initializer"])
    if scaling:
        scaling.only("factor", 1.0, "the pyramid's kernels are scaled by 1 / fan-in")
        scaling.only("uniform", False, "the pyramid's kernels start normally distributed")
        scaling.only("mode", 0, "the pyramid's kernels are scaled by 1 / fan-in")


def _anchors(generator: Section, levels: tuple[int, int]) -> dict[str, Any]:
    _, multiscale = generator.choice("anchor_generator_oneof", ["multiscale_anchor_generator"])
    if multiscale is None:
        return {}
    for name, level in zip(("min_level", "max_level"), levels, strict=True):
        if multiscale.value(name) != level:
            multiscale.refuse(name, f"{multiscale.shown(name)} differs from the feature extractor's fpn.{name} {level}")
    multiscale.without_effect("normalize_coordinates")  # boxes are the same in pixels
    ratios = multiscale.required("aspect_ratios")
    if any(ratio <= 0 for ratio in ratios):
        multiscale.refuse("aspect_ratios", "must be above 0")
    return {
        "anchor_size": multiscale.positive("anchor_scale"),
        "aspect_ratios": ratios,
        "num_scales": multiscale.positive("scales_per_octave"),
    }


def _head(predictor: Section) -> dict[str, Any]:
    _, shared = predictor.choice("box_predictor_oneof", ["weight_shared_convolutional_box_predictor"])
    if shared is None:
        return {}
    shared.only("kernel_size", 3, "the heads' kernels are 3 × 3")
    shared.only("box_code_size", 4, "a box has 4 numbers")
    shared.only("class_prediction_bias_init", -4.6, "classes start at a probability of 0.01")
    shared.only("use_dropout", False, "the heads have no dropout")
    shared.only("share_prediction_tower", False, "classes and boxes have a tower each")
    shared.only("score_converter", 0, "scores are converted in post_processing")
    shared.without_effect("dropout_keep_probability")
    return {
        "num_convs": shared.value("num_layers_before_predictor"),
        "num_filters": shared.positive("depth"),
        "use_separable_conv": shared.value("use_depthwise"),
    }


def _post_processing(section: Section) -> dict[str, Any]:
    section.only("score_converter", 1, "scores are sigmoids of the outputs")
    section.only("logit_scale", 1.0, "outputs are not scaled")
    nms = section.required_section("batch_non_max_suppression")
    per_class, total = nms.positive("max_detections_per_class"), nms.positive("max_total_detections")
    if per_class < total:
        nms.refuse(
            "max_detections_per_class", f"{per_class} is not supported: it must not be below max_total_detections ({total})"
        )
    nms.without_effect(
        "use_static_shapes", "use_partitioned_nms", "use_combined_nms", "use_cpu_nms", "max_classes_per_detection"
    )
    agnostic = nms.value("use_class_agnostic_nms")
    return {
        # TensorFlow's combined operation, in C++; where classes are not told apart, Model Garden has it in Python's graph only.
        "nms_version": "v2" if agnostic else "batched",
        "use_class_agnostic_nms": agnostic,
        "pre_nms_score_threshold": nms.value("score_threshold"),
        "nms_iou_threshold": nms.value("iou_threshold"),
        "max_num_detections": total,
    }


def _targets(ssd: Section) -> dict[str, Any]:
    ssd.required_section("similarity_calculator").choice("region_similarity", ["iou_similarity"])
    _, matcher = ssd.required_section("matcher").choice("matcher_oneof", ["argmax_matcher"])
    if matcher is None:
        return {}
    matcher.only("ignore_thresholds", False, "anchors are matched by thresholds")
    matcher.only("negatives_lower_than_unmatched", True, "anchors below the unmatched threshold are the negatives")
    matcher.only("force_match_for_each_row", True, "each object gets at least its best anchor")
    matcher.without_effect("use_matmul_gather")
    return {"match_threshold": matcher.value("matched_threshold"), "unmatched_threshold": matcher.value("unmatched_threshold")}


def _box_coder(section: Section) -> list[float] | None:
    """[y, x, height, width] scales"""
    _, coder = section.choice("box_coder_oneof", ["faster_rcnn_box_coder"])
    if coder is None:
        return None
    return [coder.positive(name) for name in ("y_scale", "x_scale", "height_scale", "width_scale")]


def _losses(ssd: Section) -> dict[str, Any]:
    loss = ssd.required_section("loss")
    loss.only("classification_weight", 1.0, "weigh the boxes with localization_weight")
    # Huber's loss is the mean over a box's 4 numbers: without that normalization it counts 4 times.
    weight = loss.value("localization_weight") * (1 if ssd.value("normalize_loc_loss_by_codesize") else 4)
    settings: dict[str, Any] = {"box_loss_weight": weight}
    _, focal = loss.required_section("classification_loss").choice("classification_loss", ["weighted_sigmoid_focal"])
    if focal:
        focal.without_effect("anchorwise_output")
        settings |= {
            "focal_loss_alpha": focal.required("alpha", "for example alpha: 0.25"),
            "focal_loss_gamma": focal.value("gamma"),
        }
    _, smooth = loss.required_section("localization_loss").choice("localization_loss", ["weighted_smooth_l1"])
    if smooth:
        smooth.without_effect("anchorwise_output")
        settings["huber_loss_delta"] = smooth.positive("delta")
    return settings


def _normalization_switches(ssd: Section) -> None:
    ssd.only("encode_background_as_zeros", True, "the background has no class of its own")
    ssd.only("normalize_loss_by_num_matches", True, "losses are divided by the number of matched anchors")
    ssd.without_effect("inplace_batchnorm_update")
