"""Whether TensorFlow finds the GPUs that a machine has: if not, it says so only among what trainer.runtime silences."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from trainer.progress import log

_HIDDEN = ("", "-1")  # of CUDA_VISIBLE_DEVICES: no GPU is this process's


def warn_if_unseen(devices: Path = Path("/dev")) -> None:
    """Warns where the machine has a GPU, as the driver's files in `devices` tell, and TensorFlow none. Loads TensorFlow."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in _HIDDEN or not any(devices.glob("nvidia[0-9]*")):
        return
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        log(said(tf.__version__, tf.sysconfig.get_build_info()), "WARNING")


def said(version: str, build: Any) -> str:
    """`build`: what TensorFlow tells of how it was built."""
    needs = f"It needs CUDA {build['cuda_version']} and cuDNN {build['cudnn_version']}" if build.get("is_cuda_build") else ""
    return (
        f"TensorFlow {version} finds no GPU, though this machine has one, and computes on the CPU. "
        f"{needs or 'It is built without CUDA'}: `odcloud image build --base-image …` makes an image that has what it needs"
    )
