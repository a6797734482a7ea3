"""Weights to begin from: of an earlier run, of Model Garden's published checkpoints, or of a backbone alone."""

from __future__ import annotations

import re
import tempfile
from typing import Any

import tensorflow as tf

from trainer import paths
from trainer.config.training import Start
from trainer.errors import InputError
from trainer.progress import log

_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_SHOWN = 8
_FUNCTIONAL = "layer_with_weights-"
_KERAS_FILES = (".h5", ".hdf5", ".keras")  # .weights.h5, too


def begin(model: Any, start: Start) -> None:
    """Reads the parts of the model that `start` names.

    The checkpoint may be a run's (below "model"), Model Garden's (parts by name), or of a Keras model, which is the backbone;
    or Keras's own file of one. Raises InputError naming the variables that it lacks or that have another shape.
    """
    if start.path.lower().endswith(_KERAS_FILES):
        _begin_keras(model, start)
        return
    path = _find(start.path)
    try:
        variables = dict(tf.train.list_variables(path))
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise InputError(f"{start.path}: cannot be read as a checkpoint: {str(error).splitlines()[0][:200]}") from error
    roots = {name.split("/")[0] for name in variables}
    whole = "all" in start.parts
    parts = {part: item for part, item in model.checkpoint_items.items() if whole or part in start.parts}
    if "model" in roots:
        stem = "_" if any(name.startswith("model/_backbone/") for name in variables) else ""
        below = model if whole else tf.train.Checkpoint(**{f"{stem}{part}": item for part, item in parts.items()})
        checkpoint = tf.train.Checkpoint(model=below)
    elif "backbone" in roots:
        checkpoint = tf.train.Checkpoint(**parts)
    elif any(root.startswith(_FUNCTIONAL) for root in roots):
        if start.parts != ("backbone",):
            raise _backbone_only(start)
        checkpoint = tf.train.Checkpoint(root=model.backbone)
    else:
        raise InputError(f"{start.path}: is a checkpoint of neither a detector nor a backbone: it has {_some(sorted(roots))}")
    try:
        checkpoint.read(path).expect_partial().assert_existing_objects_matched()
    except (AssertionError, ValueError) as error:
        there = sorted(name.removesuffix(_SUFFIX) for name in variables if name.endswith(_SUFFIX) and ".OPTIMIZER" not in name)
        raise InputError(f"{start.path}: does not fit the model: {difference(error)}; it has {_some(there)}") from error
    log(f"beginning with {' and '.join(start.parts)} of {path}")


def _begin_keras(model: Any, start: Start) -> None:
    """Keras reads its own files, layer by layer; they must be of the same network, built of the same layers."""
    if start.parts != ("backbone",):
        raise _backbone_only(start)
    path = paths.resolve(start.path)
    if not tf.io.gfile.exists(path):
        raise InputError(f"{start.path}: no such file to begin from (fine_tune_checkpoint)")
    with tempfile.TemporaryDirectory() as folder:
        if paths.is_remote(path):  # HDF5 reads files only
            local = f"{folder}/{path.rpartition('/')[2]}"
            tf.io.gfile.copy(path, local)
            path = local
        try:
            model.backbone.load_weights(path)
        except Exception as error:  # h5py, zipfile and Keras raise whatever a file makes them meet
            said = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputError(
                f"{start.path}: does not fit the model's backbone: {said}. A Keras file must hold the layers of Model Garden's "
                "network, as its backbone's save_weights writes them; those of Keras Applications have other layers"
            ) from error
    log(f"beginning with backbone of {start.path}")


def _backbone_only(start: Start) -> InputError:
    return InputError(
        f'{start.path}: is a backbone\'s checkpoint; set fine_tune_checkpoint_type: "classification" to begin from it'
    )


def _find(path: str) -> str:
    """The checkpoint's prefix: a folder stands for its last one. Raises InputError when there is none."""
    local = paths.resolve(path)
    if tf.io.gfile.isdir(local):
        latest = tf.train.latest_checkpoint(local)
        if latest is None:
            raise InputError(f"{path}: no checkpoint in this folder to begin from (fine_tune_checkpoint)")
        return str(latest)
    local = local.removesuffix(".index")
    if not tf.io.gfile.exists(f"{local}.index"):
        old = " (a .ckpt of TensorFlow 1 is not supported)" if ".ckpt" in local else ""
        raise InputError(f"{path}: no such checkpoint to begin from (fine_tune_checkpoint){old}")
    return local


def difference(error: Exception) -> str:
    """Which variables a checkpoint lacks, or which has another shape in it, as TensorFlow's error says."""
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    shapes = re.search(r"shape (\(.*?\)).*?shape (\(.*?\)) and name (\S+?)\.?$", first)
    if shapes:
        return f"{shapes[3]} has the shape {shapes[1]} there and {shapes[2]} here"
    missing = re.findall(r"<tf\.Variable '([^']+?)(?::0)?'", str(error))
    total = re.search(r"Found (\d+)", str(error))
    return f"it lacks {_some(missing, int(total[1]) if total else None)}" if missing else first[:200]


def _some(names: list[str], total: int | None = None) -> str:
    shown = ", ".join(names[:_SHOWN])
    more = (total or len(names)) - len(names[:_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown


def freeze(model: Any, patterns: tuple[str, ...]) -> None:
    """Keeps layers as they are whose variables all match one of the patterns (re.match), as freeze_variables asks.

    Names are PART/VARIABLE, PART being backbone, decoder or a head. FeatureExtractor and FirstStageFeatureExtractor, as the
    Object Detection API's names began, stand for the backbone.
    Raises InputError naming a pattern that matches nothing, or a layer of which it matches a part only.
    """
    unused = set(patterns)
    for part, submodel in model.checkpoint_items.items():
        for layer in submodel.submodules:
            own = getattr(layer, "_trainable_weights", None)
            if not own:
                continue
            matches = []
            for variable in own:
                names = [f"{part}/{variable.name}"]
                if part == "backbone":
                    names += [f"FeatureExtractor/{variable.name}", f"FirstStageFeatureExtractor/{variable.name}"]
                found = [pattern for pattern in patterns if any(re.match(pattern, name) for name in names)]
                unused -= set(found)
                matches.append(bool(found))
            if any(matches) and not all(matches):
                kept = next(v.name for v, match in zip(own, matches, strict=True) if not match)
                raise InputError(
                    f"train_config.freeze_variables matches a part of the layer {layer.name} only, not {kept}: "
                    "a layer is frozen as a whole; widen the pattern"
                )
            if any(matches):
                layer.trainable = False
    if unused:
        examples = [
            f"{part}/{item.trainable_variables[0].name}"
            for part, item in model.checkpoint_items.items()
            if item.trainable_variables
        ]
        raise InputError(
            f'train_config.freeze_variables: "{sorted(unused)[0]}" matches no variable; their names are like {_some(examples)}'
        )
