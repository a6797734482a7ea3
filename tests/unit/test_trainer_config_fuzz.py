"""Whatever text a configuration is: it is read, or refused in one message. No other exception, no endless loop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from trainer.config import experiment, locations
from trainer.errors import InputError
from trainer.protos import pipeline_pb2

TEXT = (Path(__file__).resolve().parents[2] / "examples/digits/pipeline.config").read_text()
TEXT = "\n".join(line.split("#")[0] for line in TEXT.replace("PATH_TO_BE_CONFIGURED", "/data").splitlines())
NAMES = sorted({field.name for message in pipeline_pb2.DESCRIPTOR.message_types_by_name.values() for field in message.fields})
pytestmark = pytest.mark.timeout(120)

scalars = st.one_of(
    st.integers().map(str),
    st.floats().map(repr),
    st.text(max_size=8).map(json.dumps),
    st.sampled_from(["true", "false", "RELU_6", "SIGMOID", "inf", "-nan", "''", "0x1f", "1e-400", "'\\x80'"]),
)
values = st.recursive(
    scalars.map(lambda value: f": {value}"),
    lambda inner: st.lists(st.tuples(st.sampled_from(NAMES), inner), max_size=4).map(
        lambda fields: "{" + " ".join(name + value for name, value in fields) + "}"
    ),
    max_leaves=12,
)


def read(text: str, path: str = "p.config") -> None:
    try:
        experiment.parse(text, path)
    except InputError as error:
        assert str(error).startswith((path, f"{path}:")) or f" problems in {path}:\n" in str(error)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.one_of(st.text(), st.text(alphabet="{}<>[]:,;#'\"\\-.\n m01e_/"), st.binary().map(lambda data: data.decode("latin-1")))
)
@example("model {" * 500)
@example("a {" * 3000 + "}" * 3000)
@example("model {" * 3000 + "}" * 3000)
@example("x" * 100_000)
@example("model { ssd { num_classes: 99999999999999999999 } }")
@example("model: [")
@example("[a.b]: [")
@example("[a.b/c] { x: 1 }")
@example("train_config { freeze_variables: 'a' 'b' [] }")
@example("m: -")
def test_any_text(text: str) -> None:
    read(text)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_good_configuration_with_something_changed(data: st.DataObject) -> None:
    lines = TEXT.splitlines()
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lines) - 1))
        change = data.draw(st.sampled_from(["remove", "double", "value", "field"]))
        if change == "remove":
            del lines[at]
        elif change == "double":
            lines.insert(at, lines[at])
        elif change == "value" and ":" in lines[at]:
            lines[at] = f"{lines[at].split(':')[0]}: {data.draw(scalars)}"
        else:
            lines.insert(at, data.draw(st.sampled_from(NAMES)) + data.draw(values))
    read("\n".join(lines))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(NAMES), values), max_size=6))
def test_each_field_of_what_is_read_has_its_place(fields: list[tuple[str, str]]) -> None:
    text = "\n".join(name + value for name, value in fields)
    try:
        experiment.reader.parse(text, "p")
    except InputError:
        return
    assert [(node.name, node.line) for node in locations.index(text).children] == [
        (name, line) for line, (name, _) in enumerate(fields, 1)
    ]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.one_of(
        st.text(),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=5),
            lambda x: (
                st.lists(x)
                | st.dictionaries(
                    st.sampled_from(
                        [
                            "task",
                            "trainer",
                            "model",
                            "train_data",
                            "validation_data",
                            "num_classes",
                            "input_path",
                            "weights",
                            "parser",
                        ]
                    ),
                    x,
                )
            ),
        ).map(json.dumps),
    )
)
@example("a: &a [*a]\ntask: *a")
@example("[" * 5000)
@example("task: !!python/object:os.system {}")
@example("2001-99-99: 1")
@example("? {a: 1}\n: 2")
def test_any_yaml(text: str) -> None:
    read(text, "p.yaml")
