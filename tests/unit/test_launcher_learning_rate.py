"""The learning rate against the number of workers."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from test_launcher_vertex import OUTPUTS

from launcher.jobfile import learning_rate, reading
from launcher.stack.session import attach
from trainer.protos import pipeline_pb2

DIGITS = Path(__file__).parents[2] / "examples/digits/pipeline.config"
TRICKY = """# train_config { optimizer { learning_rate: 1 } }
model { ssd { num_classes: 3 } }
train_config: <
  fine_tune_checkpoint: "optimizer { learning_rate: 9 } \\" }"
  optimizer { momentum_optimizer: { learning_rate: { manual_step_learning_rate {
    initial_learning_rate: .4; schedule { step: 900, learning_rate: 4e-2 }  # was learning_rate: 3
    schedule < step:1800 learning_rate:0.004f > } } momentum_optimizer_value: 0.9 } }
>
eval_config { num_examples: 4 }
"""


def test_only_rates_change() -> None:
    text = DIGITS.read_text()
    found = [(rate.field, rate.value) for rate in learning_rate.rates(text)]
    assert found == [("learning_rate_base", 0.004), ("warmup_learning_rate", 0.0004)]
    made = learning_rate.scaled(text, 4)
    assert made == text.replace("learning_rate_base: 0.004", "learning_rate_base: 0.001").replace(
        "warmup_learning_rate: 0.0004", "warmup_learning_rate: 0.0001"
    )
    pipeline = text_format.Parse(made, pipeline_pb2.TrainEvalPipelineConfig())
    rate = pipeline.train_config.optimizer.adam_optimizer.learning_rate.cosine_decay_learning_rate
    assert rate.learning_rate_base == pytest.approx(0.001)


def test_comments_strings_and_every_way_of_writing_are_told_apart() -> None:
    assert [rate.value for rate in learning_rate.rates(TRICKY)] == [0.4, 0.04, 0.004]
    assert learning_rate.peak(TRICKY) == 0.4
    made = learning_rate.scaled(TRICKY, 2)
    assert "initial_learning_rate: 0.2;" in made
    assert "learning_rate: 0.02 }  # was learning_rate: 3" in made
    assert "learning_rate:0.002 >" in made
    assert '"optimizer { learning_rate: 9 }' in made


def test_advice_is_for_several_workers() -> None:
    said = learning_rate.advice(DIGITS.read_text(), 2)
    assert said is not None
    assert "learning rate 0.004 with 2 workers" in said
    assert "0.002" in said
    assert learning_rate.advice(DIGITS.read_text(), 1) is None
    assert learning_rate.advice('{"steps": 3}', 9) is None


@pytest.mark.parametrize(
    ("pools", "said"),
    [
        ("", "there are no workers"),
        ("- {role: worker, machineType: standard}\n- {role: ps, machineType: standard}\n", "there is one worker"),
        ("- {role: worker, machineType: standard, replicaCount: 4}\n", "without parameter servers chief and workers take each"),
    ],
)
def test_a_rate_that_is_right_for_any_number_of_workers_stays(pools: str, said: str) -> None:
    file = reading.parse(f"workerPools:\n- {{role: chief, machineType: standard}}\n{pools}", "job.yaml")
    session = attach(OUTPUTS)  # which nobody answers: the configuration need not be read
    assert learning_rate.held(session, file, "gs://b/pipeline.config", False, False) == (file, [])
    assert learning_rate.held(session, file, "gs://b/pipeline.config", True, True)[0] == file
    (told,) = learning_rate.held(session, file, "gs://b/pipeline.config", True, True)[1]
    assert told.startswith(f"--scale-lr changes nothing: {said}")


@pytest.mark.parametrize("text", ["", "}}}{{{", '"', "train_config { optimizer {", "a: b: c", "learning_rate: 1", "\x00 # \\"])
def test_what_is_no_configuration_has_no_rate(text: str) -> None:
    assert learning_rate.peak(text) is None
    assert learning_rate.scaled(text, 3) == text
