"""odcloud config, and Model Garden's own form of a configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainer.config import experiment
from trainer.config.__main__ import main
from trainer.errors import InputError

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/digits/pipeline.config"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "pipeline.config"
    path.write_text(EXAMPLE.read_text().replace("PATH_TO_BE_CONFIGURED", "/data"))
    return path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_check_says_what_is_trained_and_what_is_approximated(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(config, "num_steps: 1200", "num_steps: 1200\n  sync_replicas: true")
    assert main(["check", str(config)]) == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == f"{config} can be trained: RetinaNet, 10 classes, images of 128 × 128, 1200 steps of batch 8"
    assert second == "1 field is approximated:"
    line = 1 + config.read_text()[: config.read_text().index("sync_replicas: true")].count("\n")
    assert third.startswith(f"  line {line}: train_config.sync_replicas true: workers train")
    assert main(["check", "--format=json", str(config)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["classes"], found["batchSize"], found["train"]["labelMap"]) == (10, 8, "/data/label_map.pbtxt")
    assert [item["line"] for item in found["approximated"]] == [line]


def test_a_template_as_pulumi_up_takes_it_is_checked_explained_and_named_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "template.config"
    path.write_text(EXAMPLE.read_text())
    assert main(["check", str(path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1].startswith("PATH_TO_BE_CONFIGURED stands for the data's folder")
    assert main(["explain", str(path)]) == 0
    edit(path, "batch_size: 8", "batch_size: 0")
    assert main(["check", str(path)]) == 2
    assert "PATH_TO_BE" not in capsys.readouterr().err  # only what is wrong
    with pytest.raises(InputError, match="PATH_TO_BE_CONFIGURED"):  # training needs the folder
        experiment.read(str(path))


def test_a_file_as_an_editor_on_windows_saves_it_is_the_same_with_the_same_lines(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(config, "num_steps: 1200", "num_steps: 1200\n  bias_grad_multiplier: 2")
    assert main(["check", str(config)]) == 2
    expected = capsys.readouterr().err
    config.write_bytes(b"\xef\xbb\xbf" + config.read_bytes().replace(b"\n", b"\r\n"))
    assert main(["check", str(config)]) == 2
    assert capsys.readouterr().err == expected


def test_what_tensorflow_2_s_samples_say_is_understood(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(
        config,
        "num_steps: 1200",
        "num_steps: 1200\n  fine_tune_checkpoint_version: V2\n  keep_checkpoint_every_n_hours: 1.5\n"
        "  data_augmentation_options { random_horizontal_flip { keypoint_flip_permutation: 1 keypoint_flip_permutation: 0 } }",
    )
    assert main(["check", str(config)]) == 0
    assert experiment.read(str(config)).keep_every_hours == 1.5
    edit(config, "fine_tune_checkpoint_version: V2", "fine_tune_checkpoint_version: V9")
    capsys.readouterr()
    assert main(["check", str(config)]) == 2
    assert "fine_tune_checkpoint_version" in capsys.readouterr().err


def test_explain_accounts_for_each_field_once(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(config, "num_steps: 1200", "num_steps: 1200\n  sync_replicas: true\n  bias_grad_multiplier: 2")
    text = config.read_text()
    assert main(["explain", "--format=json", str(config)]) == 2
    notes = json.loads(capsys.readouterr().out)
    verdicts = {note["name"] or note["text"]: note["verdict"] for note in notes}
    assert len(verdicts) == len(notes)
    assert verdicts["model.ssd.num_classes"] == "mapped"
    assert verdicts["eval_input_reader[0].shuffle"] == "no effect"
    assert verdicts["train_config.sync_replicas"] == "approximated"
    assert verdicts["train_config.optimizer.use_moving_average"] == "no effect"
    assert verdicts["train_config.bias_grad_multiplier is not supported"] == "refused"
    assert verdicts["model.ssd.similarity_calculator.iou_similarity"] == "mapped"
    # Every line of the file that sets a scalar or an empty message, and none else.
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    empty = [first.endswith("{") and second == "}" for first, second in zip(lines, [*lines[1:], ""], strict=True)]
    set_lines = [n for n, line in enumerate(lines, 1) if ": " in line or empty[n - 1]]
    assert sorted({note["line"] for note in notes}) == set_lines


def test_a_thousand_problems_are_not_a_thousand_lines(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(config, "eval_config {", "eval_input_reader { }\n" * 500 + "eval_config {")
    assert main(["check", str(config)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith(f"1000 problems in {config}:") and lines[-1] == "  and 900 more" and len(lines) == 102


def test_what_a_conversion_leaves_out_is_said_in_it(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(config, "num_steps: 1200", "num_steps: 1200\n  keep_checkpoint_every_n_hours: 2\n  freeze_variables: 'backbone'")
    edit(config, "eval_config {", "eval_config {\n  num_examples: 21 metrics_set: 'pascal_voc_detection_metrics'")
    edit(config, "/data/label_map.pbtxt", "/data/pet_label_map.pbtxt")
    converted = config.with_name("pipeline.yaml")
    assert main(["convert", str(config), "--output", str(converted)]) == 0
    left = [line for line in converted.read_text().splitlines() if line.startswith("# not in Model Garden's form: ")]
    said = " ".join(left)
    for text in (
        "the label map /data/pet_label_map.pbtxt; in its place odcloud takes /data/label_map.pbtxt",
        "the evaluation of 21 images; in its place 40, whole batches",
        "PASCAL VOC's metrics",
        "kept every 2 hours",
        "freeze_variables backbone",
        "the drawing of 24 images, each with 20 boxes of a score of 0.5 or more; in its place 10 images",
    ):
        assert text in said
    assert len(left) == len(set(left)) == 6
    before, after = experiment.read(str(config)), experiment.read(str(converted))
    assert (after.classes, after.steps, after.train.patterns) == (before.classes, before.steps, before.train.patterns)
    assert after.eval.examples == 40
    capsys.readouterr()
    assert main(["check", str(converted)]) == 0
    assert "Of its trainer section train_steps, validation_steps, optimizer_config are taken" in capsys.readouterr().out
    from trainer import garden

    assert garden.task_config(after).as_dict() == garden.task_config(before).as_dict()
    assert garden.optimizer_config(after).as_dict() == garden.optimizer_config(before).as_dict()


@pytest.mark.parametrize("arguments", [["chekc"], ["check"], ["check", "x", "--formt=json"], ["explain", "/none"]])
def test_wrong_use_ends_with_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("odcloud: error: ") and len(error.splitlines()) == 1


YAML = """
task:
  model: {num_classes: 11, input_size: [128, 128, 3]}
  init_checkpoint: /start
  init_checkpoint_modules: backbone
  train_data: {input_path: {a: /data/a*, b: /data/b*}, weights: {a: 2.0, b: 1.0}, global_batch_size: 4}
  validation_data: {input_path: /data/test*, global_batch_size: 2}
trainer:
  train_steps: 7
  optimizer_config: {optimizer: {type: sgd}, learning_rate: {type: constant, constant: {learning_rate: 0.1}}}
"""


def test_model_gardens_form_is_read() -> None:
    found = experiment.parse(YAML, "x.yaml")
    assert (found.kind, found.classes, found.steps) == ("retinanet", 10, 7)
    assert found.train.patterns == ("/data/a*", "/data/b*")
    assert found.train.weights == (2.0, 1.0)
    assert found.evaluation.label_map == "/data/label_map.pbtxt"
    assert found.start is not None and (found.start.path, found.start.parts) == ("/start", ("backbone",))
    assert experiment.parse(YAML.replace("num_classes", "rpn_head: {}, num_classes"), "x.yml").kind == "faster_rcnn"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: [", "x.yaml: line 1: not valid YAML"),
        ("- 1", "a Model Garden experiment is a mapping"),
        ("tsak: {}", "tsak: Model Garden's experiments have no such section; known: task, trainer, runtime"),
        ("trainer: {}", "task is missing"),
        (YAML.replace("train_steps: 7", "train_steps: x"), "trainer.train_steps must be a whole number above 0, not 'x'"),
        (YAML.replace("input_path: /data/test*, ", ""), "task.validation_data.input_path is missing"),
        (YAML.replace("num_classes: 11", "num_classes: 11, include_mask: true"), "include_mask true is not supported"),
        (
            YAML.replace(", input_size: [128, 128, 3]", ""),
            "task.model.input_size is missing: a list of 3 whole numbers above 0",
        ),
        (
            YAML.replace("[128, 128, 3]", "[128, 1e-1, 3]"),
            "task.model.input_size must be a list of 3 whole numbers above 0, not",
        ),
        (YAML.replace(", global_batch_size: 4", ""), "task.train_data.global_batch_size is missing: a whole number above 0"),
        (YAML.replace("b: 1.0", "b: x"), "task.train_data.weights.b must be a number, not 'x'"),
        (
            YAML.replace("size: 4", "size: 4, parser: {max_num_instances: x}"),
            "task.train_data.parser.max_num_instances must be a",
        ),
        (YAML.replace("modules: backbone", "modules: 3"), "task.init_checkpoint_modules must be names of modules, not 3"),
    ],
)
def test_what_is_wrong_in_model_gardens_form_is_named(text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        experiment.parse(text, "x.yaml")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_numbers_are_read_as_model_garden_reads_them() -> None:
    for written, number in (("1e-4", 1e-4), ("2.5E3", 2500.0), (".5e+1", 5.0), ("-1e2", -100.0), ("1.0e-4", 1e-4)):
        rate = experiment.parse(YAML.replace("0.1", written), "x.yaml").optimizer["learning_rate"]["constant"]["learning_rate"]
        assert rate == number and isinstance(rate, float)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.1", "fast", "trainer.optimizer_config.learning_rate.constant.learning_rate must be a number, not 'fast'"),
        ("{learning_rate: 0.1}", "{rate: 0.1}", "learning_rate.constant.rate: Model Garden has no such field"),
        ("type: sgd", "type: sdg", "trainer.optimizer_config.optimizer.type must be one of adafactor, "),
        ("{type: sgd}", "fast", "trainer.optimizer_config.optimizer must be a mapping, not 'fast'"),
        ("size: 4", "size: 4, shuffle_buffer_size: many", "task.train_data.shuffle_buffer_size must be a number, not 'many'"),
        (
            "num_classes: 11",
            "num_classes: 11, anchor: {aspect_ratios: [x]}",
            "anchor.aspect_ratios must be a list, each a number",
        ),
    ],
)
def test_what_model_garden_would_fail_of_later_is_refused_with_the_field(
    old: str, new: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(YAML)
    assert main(["check", str(path)]) == 0
    edit(path, old, new)
    assert main(["check", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"odcloud: error: {path}: t") and message in error and len(error.splitlines()) == 1
