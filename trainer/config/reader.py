"""Reads a pipeline.config: protobuf text, with every mistake named by file, line and field."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from google.protobuf import text_format

from trainer import files, paths
from trainer.config import locations
from trainer.config.locations import Node
from trainer.config.section import Problems, Section
from trainer.errors import InputError
from trainer.protos import pipeline_pb2

_LONGEST_REASON = 300  # it quotes the line
PLACEHOLDER = "PATH_TO_BE_CONFIGURED"


@dataclass(frozen=True)
class Pipeline:
    """A file as it was read: its path as the user named it, its text, and its root section."""

    path: str
    text: str
    root: Section
    problems: Problems


def read_text(path: str) -> str:
    """The configuration's text, at a local path or gs:// URI. Raises InputError when it cannot be read."""
    try:
        text = files.read(paths.resolve(path))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a pipeline configuration: it is not a UTF-8 text") from error
    except OSError as error:
        raise InputError(f"{path}: the pipeline configuration cannot be read: {error.strerror or error}") from error
    if text is None:
        raise InputError(f"{path}: no such pipeline configuration")
    return text


def parse(text: str, path: str, template: bool = False) -> Pipeline:
    """Reads the text; `path` only names it in errors.

    Raises InputError when it is not protobuf text, has fields that the API does not know, or, unless it is a template,
    placeholders left.
    """
    message = pipeline_pb2.TrainEvalPipelineConfig()
    try:
        # Unknown fields are looked for below, to name all of them and the nearest known ones.
        text_format.Parse(text, message, allow_unknown_field=True)
        root = locations.index(text)
    except text_format.ParseError as error:
        raise InputError(_place(path, error) + f": not a valid pipeline configuration: {_reason(error)}") from error
    except RecursionError as error:
        raise InputError(f"{path}: not a valid pipeline configuration: its messages are nested too deeply") from error
    problems = Problems(path)
    _find_unknown(root, pipeline_pb2.TrainEvalPipelineConfig.DESCRIPTOR, "", problems)
    if not template:
        _find_placeholders(root, "", problems)
    problems.raise_if_any()
    return Pipeline(path, text, Section(message, root, "", problems), problems)


def _find_unknown(node: Node, descriptor: Any, path: str, problems: Problems) -> None:
    if descriptor.name == "Opaque":  # reported as unsupported as a whole, by its name
        return
    for child in node.children:
        name = f"{path}.{child.name}" if path else child.name
        known = descriptor.fields_by_name.get(child.name)
        if known is None:
            near = difflib.get_close_matches(child.name, descriptor.fields_by_name.keys(), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            problems.add(child.line, f"{name}: the Object Detection API has no such field{hint}")
        elif known.message_type is not None:
            _find_unknown(child, known.message_type, name, problems)


def _find_placeholders(node: Node, path: str, problems: Problems) -> None:
    for child in node.children:
        name = f"{path}.{child.name}" if path else child.name
        if PLACEHOLDER in child.text:
            problems.add(
                child.line, f"{name}: {PLACEHOLDER} stands for your data's folder; put the folder's path or gs:// URI there"
            )
        _find_placeholders(child, name, problems)


def _place(path: str, error: text_format.ParseError) -> str:
    return f"{path}: line {error.GetLine()}" if error.GetLine() else path


def _reason(error: text_format.ParseError) -> str:
    """The parser's words, without the position and the package's name."""
    text = str(error).splitlines()[0]
    line, column = error.GetLine(), error.GetColumn()
    text = text.removeprefix(f"{line}:{column} : " if column else f"{line} : ")
    return text.replace("odcloud.trainer.", "")[:_LONGEST_REASON]
