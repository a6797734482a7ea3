"""Model sections that Model Garden has not exactly: what is made of them, and that it is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.config import experiment
from trainer.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = sorted((ROOT / "examples/configs").glob("*.config"))

REST = """
train_config { batch_size: 24 num_steps: 10 %s
  optimizer { momentum_optimizer { learning_rate { constant_learning_rate { } } } use_moving_average: false } }
train_input_reader { label_map_path: "l" tf_record_input_reader { input_path: "t" } }
eval_config { }
eval_input_reader { label_map_path: "l" tf_record_input_reader { input_path: "e" } }
"""
# As the files of 2017 were: SSD's own feature maps, its anchors, hard example mining; Faster R-CNN on one feature map.
SSD = """model { ssd {
  num_classes: 37
  image_resizer { fixed_shape_resizer { height: 300 width: 300 } }
  feature_extractor { type: "ssd_mobilenet_v1" depth_multiplier: 1.0 min_depth: 16
    conv_hyperparams { activation: RELU_6
      regularizer { l2_regularizer { weight: 0.00004 } }
      initializer { truncated_normal_initializer { stddev: 0.03 } }
      batch_norm { train: true scale: true center: true decay: 0.9997 epsilon: 0.001 } } }
  box_coder { faster_rcnn_box_coder { y_scale: 10 x_scale: 10 height_scale: 5 width_scale: 5 } }
  matcher { argmax_matcher { force_match_for_each_row: true } }
  similarity_calculator { iou_similarity { } }
  box_predictor { convolutional_box_predictor { max_depth: 0 kernel_size: 1 use_dropout: false
    conv_hyperparams { activation: RELU_6 } } }
  anchor_generator { ssd_anchor_generator { num_layers: 6 min_scale: 0.2 max_scale: 0.95 aspect_ratios: [1, 2, 0.5] } }
  loss { classification_loss { weighted_sigmoid { } } localization_loss { weighted_smooth_l1 { } }
    hard_example_miner { num_hard_examples: 3000 max_negatives_per_positive: 3 }
    classification_weight: 2.0 localization_weight: 1.0 }
  post_processing { batch_non_max_suppression { score_threshold: 1e-8 } score_converter: SIGMOID }
} }"""
RCNN = """model { faster_rcnn {
  num_classes: 37
  image_resizer { keep_aspect_ratio_resizer { min_dimension: 600 max_dimension: 1024 } }
  feature_extractor { type: "faster_rcnn_resnet101" first_stage_features_stride: 16 }
  first_stage_anchor_generator { grid_anchor_generator {
    scales: [0.25, 0.5, 1.0, 2.0] aspect_ratios: [0.5, 1.0, 2.0] height_stride: 16 width_stride: 16 } }
  first_stage_box_predictor_conv_hyperparams { op: CONV
    regularizer { l2_regularizer { weight: 0.0 } } initializer { truncated_normal_initializer { stddev: 0.01 } } }
  first_stage_nms_score_threshold: 0.0 first_stage_nms_iou_threshold: 0.7 first_stage_max_proposals: 300
  first_stage_localization_loss_weight: 2.0 first_stage_objectness_loss_weight: 1.0
  initial_crop_size: 14 maxpool_kernel_size: 2 maxpool_stride: 2
  second_stage_box_predictor { mask_rcnn_box_predictor { use_dropout: false dropout_keep_probability: 1.0
    fc_hyperparams { op: FC regularizer { l2_regularizer { weight: 0.0 } } } } }
  second_stage_post_processing { batch_non_max_suppression {
    score_threshold: 0.0 iou_threshold: 0.6 max_detections_per_class: 100 max_total_detections: 300 } score_converter: SOFTMAX }
} }"""


def parse(model: str, train: str = "") -> experiment.Experiment:
    return experiment.parse(model + REST % train, "p.config")


def approximated(found: experiment.Experiment) -> dict[str, str]:
    return {note.name.rpartition(".")[2]: note.text for note in found.approximations}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_the_samples_are_mapped_exactly_and_say_how_to_run_them(path: Path) -> None:
    text = path.read_text()
    found = experiment.parse(text.replace("PATH_TO_BE_CONFIGURED", "/data"), path.name)
    assert found.approximations == ()
    head = text[: text.index("model {")]
    assert all(f"#   {word}  " in head for word in ("command", "hardware", "time", "cost", "score"))
    assert found.task["model"]["num_classes"] == {"pets": 38, "voc07": 21, "coco": 91}[path.stem.rpartition("_")[2]]


def test_an_efficientdet_keeps_its_backbone_and_gets_a_plain_pyramid() -> None:
    pyramid = "bifpn { min_level: 3 max_level: 7 num_iterations: 3 num_filters: 64 }"
    written = SSD.replace(
        '"ssd_mobilenet_v1" depth_multiplier: 1.0 min_depth: 16', f'"ssd_efficientnet-b0_bifpn_keras" {pyramid}'
    )
    written = written.replace("RELU_6", "SWISH").replace("300", "512")
    found = parse(written)
    model = found.task["model"]
    assert model["backbone"] == {"type": "efficientnet", "efficientnet": {"model_id": "b0", "se_ratio": 0.25}}
    assert model["decoder"] == {"type": "fpn", "fpn": {"num_filters": 64, "use_separable_conv": True}}
    assert (model["min_level"], model["max_level"], model["norm_activation"]["activation"]) == (3, 7, "swish")
    assert approximated(found)["bifpn"].startswith("Model Garden has no BiFPN: a feature pyramid of the levels 3 to 7 with 64")
    with pytest.raises(InputError, match=r"bifpn.num_filters must be above 0"):
        parse(written.replace("num_filters: 64", ""))


def test_an_ssd_of_2017_becomes_a_retinanet() -> None:
    found = parse(SSD)
    model = found.task["model"]
    assert found.kind == "retinanet"
    assert model["backbone"] == {"type": "mobilenet", "mobilenet": {"model_id": "MobileNetV1", "filter_size_scale": 1.0}}
    assert (model["input_size"], model["min_level"], model["max_level"]) == ([320, 320, 3], 3, 6)
    # The largest of two anchors on the coarsest level: 0.95 of the image.
    assert model["anchor"]["anchor_size"] * 2**6 * 2**0.5 == pytest.approx(0.95 * 320)
    losses = found.task["losses"]
    # Twice (focal loss + half of it times (a box's 4 numbers' mean, which is a quarter of their sum)).
    assert (losses["loss_weight"], losses["box_loss_weight"], losses["focal_loss_gamma"]) == (2.0, 2.0, 2.0)
    assert losses["l2_weight_decay"] == pytest.approx(0.00002)
    assert set(approximated(found)) == {
        "type", "height", "width", "initializer",
        "convolutional_box_predictor", "max_scale", "hard_example_miner", "weighted_sigmoid", "encode_background_as_zeros",
    }  # fmt: skip


def test_a_faster_rcnn_of_2017_gets_a_feature_pyramid() -> None:
    found = parse(RCNN, "data_augmentation_options { random_vertical_flip { } }")
    model, losses = found.task["model"], found.task["losses"]
    assert found.kind == "faster_rcnn"
    assert model["backbone"] == {"type": "resnet", "resnet": {"model_id": 101, "bn_trainable": False}}
    assert model["input_size"] == [1024, 1024, 3]
    assert model["anchor"] == {"anchor_size": 8.0, "aspect_ratios": [0.5, 1.0, 2.0], "num_scales": 1}
    assert model["roi_aligner"] == {"crop_size": 7}
    assert model["roi_generator"]["num_proposals"] == model["roi_generator"]["test_num_proposals"] == 300
    assert (losses["rpn_box_weight"], losses["rpn_score_weight"]) == (2.0, 1.0)
    assert found.task["train_data"]["parser"]["aug_rand_vflip"] is True
    said = approximated(found)
    assert said["scales"] == "one anchor size on each level: 32 64 128 256 512 pixels"
    assert said["min_dimension"] == "the longer side is scaled to 1024 pixels, the shorter one padded to it"
    assert said["max_detections_per_class"] == "up to max_total_detections (300) of a class"
    assert set(said) == {
        "type", "scales", "min_dimension", "pad_to_max_dimension", "initializer", "fc_hyperparams", "max_detections_per_class",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("ssd_mobilenet_v2", {"type": "mobilenet", "mobilenet": {"model_id": "MobileNetV2", "filter_size_scale": 1.0}}),
        ("ssd_resnet50_v1_fpn", {"type": "resnet", "resnet": {"model_id": 50, "bn_trainable": True}}),
        ("ssd_resnet152_v1_fpn_keras", {"type": "resnet", "resnet": {"model_id": 152, "bn_trainable": True}}),
    ],
)
def test_backbones(kind: str, model: dict[str, object]) -> None:
    pyramid = f'"{kind}" fpn {{ min_level: 3 max_level: 6 }}' if "fpn" in kind else f'"{kind}"'
    assert parse(SSD.replace('"ssd_mobilenet_v1"', pyramid)).task["model"]["backbone"] == model


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "faster_rcnn_inception_v2",
            "Model Garden has no such Faster R-CNN; supported: faster_rcnn_resnet50, faster_rcnn_resnet",
        ),
        ("faster_rcnn_nas", "is not supported"),
    ],
)
def test_other_extractors_are_refused_with_those_that_are_supported(kind: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        parse(RCNN.replace("faster_rcnn_resnet101", kind))
    # And nothing else, of fields that go with such an extractor.
    assert str(error.value).startswith('p.config: line 4: model.faster_rcnn.feature_extractor.type "' + kind)


def test_an_r_fcn_is_refused_for_what_it_is() -> None:
    written = RCNN.replace("mask_rcnn_box_predictor", "rfcn_box_predictor").replace("initial_crop_size: 14", "")
    with pytest.raises(InputError, match=r"rfcn_box_predictor is not supported: Model Garden has no R-FCN$"):
        parse(written)


def test_fields_that_only_the_first_releases_had() -> None:
    trained = SSD.replace('"ssd_mobilenet_v1"', '"ssd_mobilenet_v1" batch_norm_trainable: %s')
    assert parse(trained % "true").task == parse(SSD).task
    with pytest.raises(InputError, match="batch_norm_trainable false is not supported"):
        parse(trained % "false")
    frozen = parse((trained % "false").replace('"ssd_mobilenet_v1"', '"ssd_resnet50_v1_fpn" fpn { min_level: 3 max_level: 6 }'))
    assert frozen.task["model"]["backbone"]["resnet"]["bn_trainable"] is False
    stages = RCNN.replace("faster_rcnn {", "faster_rcnn { first_stage_only: %s", 1)
    assert parse(stages % "false").task == parse(RCNN).task
    with pytest.raises(InputError, match="first_stage_only true is not supported"):
        parse(stages % "true")
    old = "eval_interval_secs: 60 save_graph: true metrics_set: 'coco_metrics'"
    found = experiment.parse(SSD + (REST % "").replace("eval_config {", f"eval_config {{ {old}"), "p.config")
    assert approximated(found)["eval_interval_secs"].startswith("with --continuous")


def test_of_two_sizes_that_are_as_near_the_larger_is_taken() -> None:
    pyramid = '"ssd_mobilenet_v2_fpn_keras" fpn { min_level: 3 max_level: 7 }'
    found = parse(SSD.replace('"ssd_mobilenet_v1"', pyramid).replace("300", "320"))
    assert found.task["model"]["input_size"] == [384, 384, 3]


CROP = "random_crop_image { min_object_covered: 0.5 random_coef: 0.25 min_area: 0.2 }"


@pytest.mark.parametrize(
    ("options", "parser"),
    [
        (["random_horizontal_flip { }"], {"aug_rand_hflip": True}),
        (["random_image_scale { max_scale_ratio: 1.5 }"], {"aug_scale_min": 0.5, "aug_scale_max": 1.5}),
        (["random_scale_crop_and_pad_to_square { scale_min: 0.5 }"], {"aug_scale_min": 0.5, "aug_scale_max": 2.0}),
        # A crop of half the image is drawn twice as large.
        (["random_square_crop_by_scale { scale_min: 0.5 scale_max: 1.25 }"], {"aug_scale_min": 0.8, "aug_scale_max": 2.0}),
        (
            ["ssd_random_crop { }", "random_horizontal_flip { }"],
            {"aug_type": {"type": "ssd_random_crop"}, "aug_rand_hflip": True},
        ),
        (
            ["autoaugment_image { }"],
            {"aug_type": {"type": "autoaug", "autoaug": {"augmentation_name": "detection_v0"}}},
        ),
        (
            ["random_jpeg_quality { random_coef: 0.5 }"],
            {"aug_rand_jpeg": {"min_quality": 0, "max_quality": 100, "prob_to_apply": 0.5}},
        ),
    ],
)
def test_augmentations(options: list[str], parser: dict[str, object]) -> None:
    written = " ".join(f"data_augmentation_options {{ {option} }}" for option in options)
    assert parser.items() <= parse(SSD, written).task["train_data"]["parser"].items()


@pytest.mark.parametrize(
    ("model", "option", "message"),
    [
        (SSD, "autoaugment_image { policy_name: 'v1' }", 'policy_name "v1" is not supported: of Auto'),
        (SSD, "autoaugment_image { policy_name: 'test' }", 'policy_name "test" is not supported'),
        (RCNN, "autoaugment_image { }", "autoaugment_image is not supported; supported: random_horizontal_flip"),
        (SSD, "random_image_scale { min_scale_ratio: 3 }", "min_scale_ratio 3 must be at most max_scale_ratio 2"),
        (SSD, "random_scale_crop_and_pad_to_square { scale_max: 0.05 }", "scale_min 0.1 must be at most scale_max 0.05"),
        (SSD, "random_square_crop_by_scale { scale_max: 0.5 }", "scale_min 0.6 must be at most scale_max 0.5"),
        (SSD, "random_crop_image { min_area: 0.5 max_area: 0.2 }", "min_area 0.5 must be at most max_area 0.2"),
        (SSD, "random_crop_image { max_area: 2 }", "max_area 2 must be at most 1"),
        (SSD, "random_crop_image { min_aspect_ratio: 2 }", "min_aspect_ratio 2 must be at most max_aspect_ratio 1.33"),
        (SSD, "random_crop_image { random_coef: 1.5 }", "random_coef 1.5 must be from 0 to 1"),
        (SSD, "random_jpeg_quality { min_jpeg_quality: 90 max_jpeg_quality: 20 }", "min_jpeg_quality 90 must be from 0 to bel"),
        (SSD, "random_jpeg_quality { max_jpeg_quality: 101 }", "min_jpeg_quality 0 must be from 0 to below max"),
    ],
)
def test_augmentations_that_model_garden_cannot_do_are_refused_with_their_line(model: str, option: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        parse(model, f"\ndata_augmentation_options {{\n{option} }}")
    line = model.count("\n") + 4
    assert str(error.value).startswith(f"p.config: line {line}: train_config.data_augmentation_options[0].")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_scale_that_the_resizer_undoes_becomes_a_zoom_and_this_is_said() -> None:
    found = parse(SSD, "data_augmentation_options { random_image_scale { } }")
    assert approximated(found)["random_image_scale"].startswith("objects become so much larger or smaller")


def test_a_crop_keeps_its_settings() -> None:
    crop = parse(SSD, f"data_augmentation_options {{ {CROP} }}").task["train_data"]["parser"]["aug_type"]["ssd_random_crop"]
    assert crop["area_range"] == pytest.approx([0.2, 1.0])
    assert crop["ssd_random_crop_params"] == [
        {"min_object_covered": 0.5, "min_box_overlap": pytest.approx(0.3), "prob_to_apply": 0.75}
    ]


def test_the_operations_of_an_ssd_crop_are_approximated_themselves() -> None:
    crop = "data_augmentation_options {{ ssd_random_crop {{ {} }} }}"
    found = parse(SSD, crop.format("operations { min_object_covered: 0.5 }"))
    assert found.task == parse(SSD, crop.format("")).task
    assert approximated(found)["operations"] == "the crops are those of the SSD paper"


def test_two_crops_are_one_too_many() -> None:
    with pytest.raises(InputError, match="random_crop_image is not supported beside ssd_random_crop"):
        parse(SSD, f"data_augmentation_options {{ ssd_random_crop {{ }} }} data_augmentation_options {{ {CROP} }}")


@pytest.mark.parametrize(
    ("written", "path", "parts"),
    [
        ('fine_tune_checkpoint: "c" from_detection_checkpoint: true', "c", ("backbone", "decoder")),
        ('fine_tune_checkpoint: "c"', "c", ("backbone",)),
        ('fine_tune_checkpoint: "c" fine_tune_checkpoint_type: "full"', "c", ("all",)),
    ],
)
def test_where_training_begins(written: str, path: str, parts: tuple[str, ...]) -> None:
    start = parse(SSD, written).start
    assert start is not None and (start.path, start.parts) == (path, parts)


def test_rates_that_rise_first() -> None:
    rise = "manual_step_learning_rate { initial_learning_rate: 0.1 warmup: true schedule { step: 5 learning_rate: 0.5 } } #"
    found = experiment.parse(SSD + (REST % "").replace("constant_learning_rate { }", rise + "\n"), "p")
    assert found.optimizer["learning_rate"] == {"type": "constant", "constant": {"learning_rate": 0.5}}
    assert found.optimizer["warmup"] == {
        "type": "linear",
        "linear": {"warmup_steps": 5, "warmup_learning_rate": pytest.approx(0.1)},
    }
