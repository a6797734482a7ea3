from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.config import augmentation, experiment, locations, rates, reader
from trainer.errors import InputError
from trainer.protos import pipeline_pb2

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/digits/pipeline.config"


@pytest.fixture(scope="module")
def text() -> str:
    return EXAMPLE.read_text().replace("PATH_TO_BE_CONFIGURED", "/data")


def errors(text: str) -> list[str]:
    with pytest.raises(InputError) as error:
        experiment.parse(text, "p.config")
    found = str(error.value).splitlines()
    return found if len(found) == 1 else [line.strip() for line in found[1:]]


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def changed(text: str, old: str, new: str) -> str:
    assert old in text, old
    return text.replace(old, new, 1)


def test_the_example_is_mapped_to_model_garden(text: str) -> None:
    result = experiment.parse(text, "p.config")
    assert (result.steps, result.classes) == (1200, 10)
    model = result.task["model"]
    assert model["num_classes"] == 11
    assert model["input_size"] == [128, 128, 3]
    assert (model["min_level"], model["max_level"]) == (3, 5)
    assert model["anchor"] == {"anchor_size": 3.0, "aspect_ratios": [1.0], "num_scales": 2}
    assert model["backbone"] == {"type": "mobilenet", "mobilenet": {"model_id": "MobileNetV2", "filter_size_scale": 0.5}}
    assert model["decoder"] == {"type": "fpn", "fpn": {"num_filters": 48, "use_separable_conv": True}}
    assert model["head"] == {"num_convs": 2, "num_filters": 48, "use_separable_conv": True}
    assert model["detection_generator"]["box_coder_weights"] == [10, 10, 5, 5]
    assert result.task["losses"]["box_loss_weight"] == 1.0
    assert result.task["train_data"]["global_batch_size"] == 8
    assert "aug_rand_hflip" not in result.task["train_data"]["parser"]
    assert result.train.patterns == ("/data/train-?????-of-?????.tfrecord",)
    assert result.evaluation.label_map == "/data/label_map.pbtxt"
    assert result.optimizer["optimizer"]["type"] == "adam"
    assert result.optimizer["learning_rate"]["cosine"]["decay_steps"] == 1100
    assert result.optimizer["warmup"]["linear"]["warmup_steps"] == 100


def test_the_example_as_it_is_names_each_placeholder() -> None:
    found = errors(EXAMPLE.read_text())
    assert len(found) == 4
    line = line_of(EXAMPLE.read_text(), 'label_map_path: "PATH')
    assert found[0].startswith(
        f"line {line}: train_input_reader.label_map_path: PATH_TO_BE_CONFIGURED stands for your data's folder"
    )


def test_unknown_fields_are_named_with_line_and_the_nearest_name(text: str) -> None:
    broken = changed(changed(text, "num_classes: 10", "num_clases: 10"), "batch_size: 8", "batch_sizes: 8")
    found = errors(broken)
    assert found == [
        f"line {line_of(broken, 'num_clases')}: model.ssd.num_clases: the Object Detection API has no such field; "
        "did you mean num_classes?",
        f"line {line_of(broken, 'batch_sizes')}: train_config.batch_sizes: the Object Detection API has no such field; "
        "did you mean batch_size?",
    ]


def test_every_unsupported_field_and_value_is_named_at_once(text: str) -> None:
    broken = changed(text, "num_steps: 1200", "num_steps: 1200\n  merge_multiple_label_boxes: true\n  bias_grad_multiplier: 2")
    broken = changed(broken, "iou_similarity {", "ioa_similarity {")
    broken = changed(broken, "eval_config {", "graph_rewriter { quantization { delay: 5 } }\neval_config {\n  export_path: 'y'")
    found = errors(broken)
    for part, message in (
        ("merge_multiple", "train_config.merge_multiple_label_boxes is not supported"),
        ("bias_grad", "train_config.bias_grad_multiplier is not supported"),
        ("ioa_similarity", "model.ssd.similarity_calculator.ioa_similarity is not supported; supported: iou_similarity"),
        ("graph_rewriter", "graph_rewriter is not supported"),
        ("export_path", "eval_config.export_path is not supported"),
    ):
        assert any(item.startswith(f"line {line_of(broken, part)}: {message}") for item in found), (part, found)
    assert len(found) == 5
    assert found == sorted(found, key=lambda item: int(re.findall(r"\d+", item)[0]))


def test_a_default_written_out_means_nothing_new(text: str) -> None:
    assert experiment.parse(
        changed(text, "num_steps: 1200", "num_steps: 1200\n  bias_grad_multiplier: 0\n  sync_replicas: false"), "p"
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("num_classes: 10", "", "model.ssd.num_classes is missing"),
        ("num_classes: 10", "num_classes: 0", "model.ssd.num_classes must be at least 1"),
        ("num_steps: 1200", "", "train_config.num_steps is missing"),
        ("batch_size: 8", "batch_size: 0", "train_config.batch_size must be above 0, not 0"),
        ("alpha: 0.25", "", "weighted_sigmoid_focal.alpha is missing"),
        ("height: 128", "height: -1", "fixed_shape_resizer.height must be above 0"),
        (
            "ssd_mobilenet_v2_fpn_keras",
            "ssd_inception_v2",
            '.type "ssd_inception_v2" is not supported: Model Garden has no such SSD; supported: ssd_mobilenet_v1, ',
        ),
        (
            "ssd_mobilenet_v2_fpn_keras",
            "ssd_efficientnet-b8_bifpn_keras",
            '"ssd_efficientnet-b8_bifpn_keras" is not supported: Model Garden has no such SSD; supported: ssd_mobilenet_v1, ',
        ),
        (
            "coco_detection_metrics",
            "oid_V2_detection_metrics",
            'metrics_set "oid_V2_detection_metrics" is not supported',
        ),
        ("warmup_steps: 100", "warmup_steps: 1200", "warmup_steps 1200 must be below total_steps 1200"),
        ("num_steps: 1200", 'num_steps: 1200 freeze_variables: "("', 'freeze_variables "(" is not a regular expression'),
        ("num_steps: 1200", 'num_steps: 1200 fine_tune_checkpoint_type: "x"', 'type "x" is not supported; supported: class'),
        ("shuffle_buffer_size: 1000", "sample_from_datasets_weights: [1, 2]", "weights are 2 for 1 input paths"),
        ("anchor_scale: 3.0", "anchor_scale: 3.0\n aspect_ratios: -2", "aspect_ratios must be above 0"),
        (
            "multiscale_anchor_generator {\n        min_level: 3",
            "multiscale_anchor_generator {\n        min_level: 4",
            "fpn.min_level 3",
        ),
    ],
)
def test_what_training_needs_is_checked(text: str, old: str, new: str, message: str) -> None:
    assert any(message in item for item in errors(changed(text, old, new))), errors(changed(text, old, new))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("center_net { object_center_params { x: 1 } }", "model.center_net is not supported; supported: ssd or faster_rcnn"),
        ("", "model is empty: it needs ssd or faster_rcnn"),
    ],
)
def test_other_models_are_refused_by_name(text: str, model: str, message: str) -> None:
    rest = text[text.index("train_config {") :]
    assert errors(f"model {{ {model} }}\n{rest}") == [f"p.config: line 1: {message}"]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("model {", "p.config: line 1: not a valid pipeline configuration: "),
        ("model { ssd { num_classes: ten } }", "p.config: line 1: not a valid pipeline configuration: 'model { ssd { num_cl"),
        ("\nmodel { ssd { num_classes: 1 num_classes: 2 } }", "p.config: line 2: "),
        ("train_config {\n optimizer { adam_optimizer {} rms_prop_optimizer {} }\n}", "p.config: line 2: "),
    ],
)
def test_broken_text_is_named_with_its_line(broken: str, message: str) -> None:
    assert message in errors(broken)[0]


def test_a_missing_file_and_a_binary_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such pipeline configuration"):
        experiment.read(str(tmp_path / "none"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a UTF-8 text"):
        experiment.read(str(tmp_path / "binary"))
    with pytest.raises(InputError, match="cannot be read"):
        experiment.read(str(tmp_path))


def test_localization_loss_counts_four_times_without_normalization_by_code_size(text: str) -> None:
    result = experiment.parse(changed(text, "normalize_loc_loss_by_codesize: true", ""), "p")
    assert result.task["losses"]["box_loss_weight"] == 4.0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("height: 128", "height: 100", "fixed_shape_resizer.height 100: 96, a multiple of 32"),
        ("min_depth: 8", "", "feature_extractor.min_depth (not set, which means 16): the network's layers are at least 8"),
        ("force_match_for_each_row: true", "", "force_match_for_each_row (not set, which means false): each object"),
        ("class_prediction_bias_init: -4.6", "class_prediction_bias_init: 0", "class_prediction_bias_init 0: classes start"),
        ("max_detections_per_class: 100", "max_detections_per_class: 10", "max_detections_per_class 10: up to max_total"),
        ("decay: 0.99", "decay: 0.9", "conv_hyperparams { … }: the heads' layers are as the feature extractor's"),
        ("score_converter: SIGMOID", "score_converter: SOFTMAX", "score_converter SOFTMAX: scores are sigmoids"),
        ("num_steps: 1200", "num_steps: 1200 sync_replicas: true", "train_config.sync_replicas true: workers train"),
        (
            "weighted_sigmoid_focal {\n          alpha: 0.25\n          gamma: 1.5",
            "weighted_sigmoid {",
            "classification_loss.weighted_sigmoid { … }: focal loss",
        ),
    ],
)
def test_what_is_done_otherwise_is_said_with_its_line(text: str, old: str, new: str, message: str) -> None:
    written = changed(text, old, new)
    notes = experiment.parse(written, "p.config").approximations
    found = [note for note in notes if message in note.sentence()]
    assert len(found) == len(notes) == 1, notes
    if "not set" not in message:
        assert found[0].name.rpartition(".")[2] in written.splitlines()[found[0].line - 1]


def test_the_example_is_mapped_exactly(text: str) -> None:
    assert experiment.parse(text, "p.config").approximations == ()


def test_flips_are_an_option(text: str) -> None:
    flipped = changed(text, "num_steps: 1200", "num_steps: 1200\n  data_augmentation_options { random_horizontal_flip {} }")
    assert experiment.parse(flipped, "p").task["train_data"]["parser"]["aug_rand_hflip"] is True
    broken = changed(
        text, "num_steps: 1200", "num_steps: 1200\n  data_augmentation_options { random_black_patches { probability: 0.5 } }"
    )
    assert "random_black_patches is not supported; supported: random_horizontal_flip" in errors(broken)[0]


RATES = {
    "constant_learning_rate { learning_rate: 0.5 }": {"type": "constant", "constant": {"learning_rate": 0.5}},
    "exponential_decay_learning_rate { initial_learning_rate: 0.5 decay_steps: 10 decay_factor: 0.25 staircase: false }": {
        "type": "exponential",
        "exponential": {"initial_learning_rate": 0.5, "decay_steps": 10, "decay_rate": 0.25, "staircase": False},
    },
    "manual_step_learning_rate { initial_learning_rate: 0.5 schedule { step: 7 learning_rate: 0.25 } }": {
        "type": "stepwise",
        "stepwise": {"boundaries": [6], "values": [0.5, 0.25]},
    },
}


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [
        ("momentum_optimizer { momentum_optimizer_value: 0.75 LR }", {"type": "sgd", "sgd": {"momentum": 0.75}}),
        (
            "rms_prop_optimizer { momentum_optimizer_value: 0.75 decay: 0.5 epsilon: 0.25 LR }",
            {"type": "rmsprop", "rmsprop": {"rho": 0.5, "momentum": 0.75, "epsilon": 0.25}},
        ),
    ],
)
def test_other_optimizers_and_rates(text: str, rate: str, optimizer: str, settings: dict[str, object]) -> None:
    start, end = text.index("    adam_optimizer {"), text.index("    use_moving_average")
    written = optimizer.replace("LR", f"learning_rate {{ {rate} }}")
    result = experiment.parse(text[:start] + written + "\n" + text[end:], "p")
    assert result.optimizer == {"optimizer": settings, "learning_rate": RATES[rate]}


EXPONENTIAL = "exponential_decay_learning_rate { initial_learning_rate: 0.5 decay_steps: 10 decay_factor: 0.25 MORE }"
COSINE = "cosine_decay_learning_rate { learning_rate_base: 0.5 total_steps: 100 warmup_steps: 10 MORE }"


@pytest.mark.parametrize(
    ("rate", "more", "exact"),
    [
        (EXPONENTIAL, "", None),
        (EXPONENTIAL, "burnin_steps: 5", None),  # at the initial rate, which Model Garden can
        (EXPONENTIAL, "burnin_steps: 5 burnin_learning_rate: 0.25", rates.Exponential(0.5, 10, 0.25, True, 5, 0.25, 0.0)),
        (EXPONENTIAL, "min_learning_rate: 0.125", rates.Exponential(0.5, 10, 0.25, True, 0, 0.5, 0.125)),
        (COSINE, "", None),
        (COSINE, "warmup_learning_rate: 0 hold_base_rate_steps: 20", rates.HeldCosine(0.5, 100, 10, 0.0, 20)),
    ],
)
def test_rates_that_model_garden_lacks_are_kept_as_they_are(
    text: str, rate: str, more: str, exact: rates.Schedule | None
) -> None:
    start, end = text.index("      learning_rate {"), text.index("    use_moving_average")
    written = f"      learning_rate {{ {rate.replace('MORE', more)} }}\n    }}\n"
    result = experiment.parse(text[:start] + written + text[end:], "p")
    assert result.schedule == exact
    assert result.approximations == ()


def test_the_steps_of_a_warm_up_and_a_hold_must_leave_some_for_the_cosine(text: str) -> None:
    found = errors(changed(text, "warmup_steps: 100", "warmup_steps: 100 hold_base_rate_steps: 1100"))
    assert found == [
        f"p.config: line {line_of(text, 'warmup_steps')}: train_config.optimizer.adam_optimizer.learning_rate."
        "cosine_decay_learning_rate.warmup_steps 1200 and hold_base_rate_steps must be below total_steps 1200"
    ]


def test_further_readers_are_evaluated_under_their_names(text: str) -> None:
    one = 'eval_input_reader { label_map_path: "l" MORE tf_record_input_reader { input_path: "/more" } }'
    found = experiment.parse("\n".join([text, one.replace("MORE", 'name: "night"'), one.replace("MORE", "")]), "p")
    assert found.evaluation.patterns == ("/data/test-?????-of-?????.tfrecord",)
    assert [(reader.name, reader.patterns) for reader in found.further] == [("night", ("/more",)), ("reader3", ("/more",))]
    twice = "\n".join([text, *2 * [one.replace("MORE", 'name: "night"')]])
    assert '"night" must be a name of its own' in errors(twice)[0]
    for name in ("best", "../x", "."):
        assert "must be a name of its own" in errors("\n".join([text, one.replace("MORE", f'name: "{name}"')]))[0]
    assert "eval_input_reader { … } is missing" in errors(text[: text.index("eval_input_reader {")])[0]


def test_averages_are_kept_where_evaluation_takes_them(text: str) -> None:
    averaging = changed(text, "use_moving_average: false", "moving_average_decay: 0.75")
    assert "ema" not in experiment.parse(averaging, "p").optimizer
    evaluating = changed(averaging, "eval_config {", "eval_config { use_moving_averages: true")
    assert experiment.parse(evaluating, "p").optimizer["ema"] == {"average_decay": 0.75, "dynamic_decay": True}
    assert (
        "use_moving_average false leaves eval_config.use_moving_averages true nothing to evaluate"
        in (errors(changed(text, "eval_config {", "eval_config { use_moving_averages: true"))[0])
    )
    assert "moving_average_decay 1 must be between 0 and 1" in errors(changed(evaluating, "0.75", "1"))[0]


def test_changes_of_colours_keep_their_order_and_amounts(text: str) -> None:
    def colours(*steps: str) -> tuple[augmentation.Colour, ...]:
        options = " ".join(f"data_augmentation_options {{ {step} }}" for step in steps)
        return experiment.parse(changed(text, "num_steps: 1200", f"num_steps: 1200 {options}"), "p").colours

    assert [
        (c.kind, pytest.approx(c.values)) for c in colours("random_adjust_hue {}", "random_adjust_contrast { max_delta: 2 }")
    ] == [
        ("hue", (0.02,)),
        ("contrast", (0.8, 2.0)),
    ]
    assert [colour.kind for colour in colours("random_distort_color { color_ordering: 1 }")] == [
        "brightness", "contrast", "saturation", "hue",
    ]  # fmt: skip
    for step, message in (
        ("random_distort_color { color_ordering: 2 }", "color_ordering 2 must be 0 or 1"),
        ("random_adjust_hue { max_delta: 0.6 }", "max_delta 0.6 must be from 0 to 0.5"),
        ("random_pixel_value_scale { minval: 2 }", "minval 2 must be from 0 to maxval 1.1"),
    ):
        with pytest.raises(InputError, match=message):
            colours(step)


def test_gradients_are_clipped_by_their_global_norm(text: str) -> None:
    result = experiment.parse(changed(text, "num_steps: 1200", "num_steps: 1200\n  gradient_clipping_by_norm: 10.0"), "p")
    assert result.optimizer["optimizer"]["adam"]["global_clipnorm"] == 10.0
    assert math.isclose(result.optimizer["optimizer"]["adam"]["epsilon"], 1e-7, rel_tol=1e-6)


def test_paths_may_be_lists_and_commas(text: str) -> None:
    listed = changed(text, 'input_path: "/data/train-?????-of-?????.tfrecord"', 'input_path: ["/a,/b", "gs://c/d"]')
    assert experiment.parse(listed, "p").train.patterns == ("/a", "/b", "gs://c/d")


def test_locations_follow_every_way_to_write_a_field() -> None:
    written = "\n".join(
        [
            "model: < ssd { num_classes: 1 } >  # comment {",
            "train_config { freeze_variables: ['a', 'b}'],",
            "  freeze_variables: 'c' 'd'; batch_size: 3",
            "  data_augmentation_options: [{ random_horizontal_flip {} },",
            "    { random_horizontal_flip { keypoint_flip_permutation: -1 } }]",
            "  gradient_clipping_by_norm: -0.5 num_steps: 4",
            "}",
        ]
    )
    assert reader.parse(written, "p").root.message.train_config.num_steps == 4
    root = locations.index(written)
    found = [(node.name, node.line, node.text) for node in root.children[1].children]
    assert found == [
        ("freeze_variables", 2, "'a'"),
        ("freeze_variables", 2, "'b}'"),
        ("freeze_variables", 3, "'c'"),
        ("batch_size", 3, "3"),
        ("data_augmentation_options", 4, ""),
        ("data_augmentation_options", 5, ""),
        ("gradient_clipping_by_norm", 6, "-0.5"),
        ("num_steps", 6, "4"),
    ]
    assert root.children[0].children[0].children[0].line == 1


def test_the_generated_module_is_of_the_proto_file(tmp_path: Path) -> None:
    root = EXAMPLE.parents[2]
    output = tmp_path / "descriptors"
    # In a process of its own: the compiler and TensorFlow, which another test may have loaded, crash each other.
    compiler = [sys.executable, "-m", "grpc_tools.protoc", f"-I{root}", f"--descriptor_set_out={output}"]
    subprocess.run([*compiler, str(root / "trainer/protos/pipeline.proto")], check=True)
    from google.protobuf import descriptor_pb2

    made = descriptor_pb2.FileDescriptorSet.FromString(output.read_bytes()).file[0]
    committed = descriptor_pb2.FileDescriptorProto()
    pipeline_pb2.DESCRIPTOR.CopyToProto(committed)
    assert [message.name for message in made.message_type] == [message.name for message in committed.message_type]
    for a, b in zip(made.message_type, committed.message_type, strict=True):
        assert [(f.name, f.number, f.type, f.label) for f in a.field] == [(f.name, f.number, f.type, f.label) for f in b.field]
