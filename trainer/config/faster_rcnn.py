"""model { faster_rcnn { … } } to Model Garden's Faster R-CNN (its Mask R-CNN without masks), with a feature pyramid.

Model Garden's side is official/vision/configs/maskrcnn.py.
"""

from __future__ import annotations

from typing import Any

from trainer.config import layers
from trainer.config.augmentation import FASTER_RCNN
from trainer.config.layers import ModelSettings
from trainer.config.section import Section

_LEVELS = (2, 6)
_SUPPORTED = "faster_rcnn_resnet50, faster_rcnn_resnet101, faster_rcnn_resnet152, each also with _v1_fpn and _keras"


def read(rcnn: Section) -> ModelSettings:
    """The whole section; what differs from Model Garden is approximated or a problem."""
    rcnn.only("number_of_stages", 2, "proposals are classified in a second stage")
    rcnn.only("first_stage_only", False, "proposals are classified in a second stage")
    classes = layers.classes(rcnn)
    side = max(layers.fixed_size(rcnn.required_section("image_resizer"), 2 ** _LEVELS[1]))
    if rcnn.section("image_resizer").has("fixed_shape_resizer"):
        rcnn.approximate("image_resizer", f"the longer side is scaled to {side} pixels, the shorter one padded to it")
    extractor = rcnn.required_section("feature_extractor")
    backbone = _backbone(extractor)
    first = layers.hyperparams(rcnn.required_section("first_stage_box_predictor_conv_hyperparams"))
    layers.initializer(
        rcnn.section("first_stage_box_predictor_conv_hyperparams"), "random_normal_initializer", {"mean": 0.0, "stddev": 0.01},
        "kernels start around 0, with a deviation of 0.01",
    )  # fmt: skip
    head = _box_head(rcnn.required_section("second_stage_box_predictor"))
    generator = _post_processing(rcnn.required_section("second_stage_post_processing"))
    rcnn.without_effect(
        "inplace_batchnorm_update", "use_matmul_crop_and_resize", "use_matmul_gather_in_matcher", "clip_anchors_to_image",
        "use_static_balanced_label_sampler", "use_static_shapes", "use_static_shapes_for_eval", "resize_masks",
        "use_partitioned_nms_in_first_stage", "use_combined_nms_in_first_stage", "maxpool_kernel_size",
    )  # fmt: skip
    return ModelSettings(
        kind=FASTER_RCNN,
        model={
            "num_classes": classes + 1,  # class 0 is the background
            "input_size": [side, side, 3],
            "min_level": _LEVELS[0],
            "max_level": _LEVELS[1],
            "include_mask": False,
            "mask_head": None,
            "mask_sampler": None,
            "mask_roi_aligner": None,
            "anchor": _anchors(rcnn.required_section("first_stage_anchor_generator")),
            "backbone": backbone,
            "decoder": {"type": "fpn", "fpn": {"num_filters": _filters(extractor)}},
            "rpn_head": _proposal_head(rcnn),
            "roi_generator": _proposals(rcnn),
            "roi_sampler": {
                "num_sampled_rois": rcnn.positive("second_stage_batch_size"),
                "foreground_fraction": rcnn.positive("second_stage_balance_fraction"),
            },
            "roi_aligner": {"crop_size": _crop_size(rcnn)} if head else {},  # refused, a head may need no crop
            "detection_head": head,
            "detection_generator": generator,
            "norm_activation": first.norm(),
        },
        losses={**_losses(rcnn), "l2_weight_decay": first.decay},
        parser={
            "keep_aspect_ratio": True,
            "rpn_batch_size_per_im": rcnn.positive("first_stage_minibatch_size"),
            "rpn_fg_fraction": rcnn.positive("first_stage_positive_balance_fraction"),
        },
        classes=classes,
        max_detections=generator["max_num_detections"],
    )


def _backbone(extractor: Section) -> dict[str, Any]:
    kind = extractor.required("type")
    found = layers.resnet(kind, extractor.value("batch_norm_trainable"))
    extractor.without_effect("pad_to_multiple", "override_base_feature_extractor_hyperparams", "conv_hyperparams")
    if found is None:
        if kind:
            extractor.refuse(
                "type", f'"{kind}" is not supported: Model Garden has no such Faster R-CNN; supported: {_SUPPORTED}'
            )
        extractor.without_effect("first_stage_features_stride")  # of that network
        return {"type": "resnet", "resnet": {"model_id": 50}}
    if "fpn" not in kind:
        extractor.approximate("type", f"with a feature pyramid of the levels {_LEVELS[0]} to {_LEVELS[1]}, not one feature map")
        extractor.without_effect("first_stage_features_stride")
    return found


def _filters(extractor: Section) -> int:
    if not extractor.has("fpn"):
        return 256
    fpn = extractor.section("fpn")
    for name, level in zip(("min_level", "max_level"), _LEVELS, strict=True):
        fpn.nearly(name, level, f"{level}: the pyramid has the levels {_LEVELS[0]} to {_LEVELS[1]}")
    return int(fpn.positive("additional_layer_depth"))


def _anchors(generator: Section) -> dict[str, Any]:
    kind, option = generator.choice("anchor_generator_oneof", ["grid_anchor_generator", "multiscale_anchor_generator"])
    if option is None:
        return {}
    ratios = option.required("aspect_ratios")
    if any(ratio <= 0 for ratio in ratios):
        option.refuse("aspect_ratios", "must be above 0")
    if kind == "multiscale_anchor_generator":
        for name, level in zip(("min_level", "max_level"), _LEVELS, strict=True):
            option.nearly(name, level, f"{level}: the pyramid has the levels {_LEVELS[0]} to {_LEVELS[1]}")
        option.without_effect("normalize_coordinates")
        scales = option.positive("scales_per_octave")
        return {"anchor_size": option.positive("anchor_scale"), "aspect_ratios": ratios, "num_scales": scales}
    option.without_effect("height_stride", "width_stride", "height_offset", "width_offset")
    scales = option.required("scales")
    largest = max([scale for scale in scales if scale > 0], default=1.0) * option.positive("height")
    option.nearly("width", option.value("height"), "anchors are as large in both directions")
    sizes = " ".join(f"{largest / 2**octave:.0f}" for octave in range(_LEVELS[1] - _LEVELS[0], -1, -1))
    option.approximate("scales", f"one anchor size on each level: {sizes} pixels")
    return {"anchor_size": largest / 2 ** _LEVELS[1], "aspect_ratios": ratios, "num_scales": 1}


def _proposal_head(rcnn: Section) -> dict[str, Any]:
    rcnn.nearly("first_stage_atrous_rate", 1, "the convolution is dense")
    rcnn.nearly("first_stage_box_predictor_kernel_size", 3, "the kernel is 3 × 3")
    return {"num_filters": rcnn.positive("first_stage_box_predictor_depth")}


def _proposals(rcnn: Section) -> dict[str, Any]:
    score, overlap = rcnn.value("first_stage_nms_score_threshold"), rcnn.positive("first_stage_nms_iou_threshold")
    count = rcnn.positive("first_stage_max_proposals")
    settings = {"pre_nms_score_threshold": max(0.0, score), "nms_iou_threshold": overlap, "num_proposals": count}
    return {**settings, **{f"test_{name}": value for name, value in settings.items()}}


def _crop_size(rcnn: Section) -> int:
    crop, stride = rcnn.required("initial_crop_size"), rcnn.value("maxpool_stride") or 1
    return max(1, crop // stride)


def _box_head(predictor: Section) -> dict[str, Any]:
    if predictor.has("rfcn_box_predictor"):
        predictor.refuse("rfcn_box_predictor", "is not supported: Model Garden has no R-FCN")
        return {}
    _, option = predictor.choice("box_predictor_oneof", ["mask_rcnn_box_predictor"])
    if option is None:
        return {}
    option.nearly("use_dropout", False, "the head has no dropout")
    option.only("predict_instance_masks", False, "boxes are predicted, not masks")
    option.only("predict_keypoints", False, "boxes are predicted, not keypoints")
    option.only("box_code_size", 4, "a box has 4 numbers")
    option.without_effect("dropout_keep_probability", "conv_hyperparams")
    if option.has("fc_hyperparams"):
        option.approximate("fc_hyperparams", "4 convolutions and a layer of 1024, regularized as the first stage")
    return {"class_agnostic_bbox_pred": option.value("share_box_across_classes")}


def _post_processing(section: Section) -> dict[str, Any]:
    nms = layers.post_processing(section, 2, "scores are a softmax of the outputs")
    return {"nms_version": "batched", **layers.suppression(nms)}


def _losses(rcnn: Section) -> dict[str, Any]:
    if rcnn.has("hard_example_miner"):
        rcnn.approximate("hard_example_miner", "proposals are sampled at random (second_stage_balance_fraction)")
    if rcnn.has("second_stage_classification_loss"):
        kind = rcnn.section("second_stage_classification_loss").message.WhichOneof("classification_loss")
        if kind != "weighted_softmax":
            rcnn.approximate("second_stage_classification_loss", "softmax cross-entropy")
        else:
            rcnn.without_effect("second_stage_classification_loss")
    return {
        "rpn_score_weight": rcnn.value("first_stage_objectness_loss_weight"),
        "rpn_box_weight": rcnn.value("first_stage_localization_loss_weight"),
        "frcnn_class_weight": rcnn.value("second_stage_classification_loss_weight"),
        "frcnn_box_weight": rcnn.value("second_stage_localization_loss_weight"),
    }
