"""The process's environment for TensorFlow: to be prepared before TensorFlow is imported anywhere in it."""

from __future__ import annotations

import logging
import os
import warnings

# Model Garden is written for Keras 2, which TensorFlow takes from the package tf_keras when this is set.
_ALWAYS = {
    "TF_USE_LEGACY_KERAS": "1",
    # Lets a coordinator's call to a lost worker fail at once, so that the step goes to another one (TensorFlow's guide to
    # parameter server training asks for it).
    "GRPC_FAIL_FAST": "use_caller",
}
# Readable logs: no banners about CPU features, GPUs that are not there or gRPC's forks. A user's own settings win.
_QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "GRPC_VERBOSITY": "NONE",
    "ABSL_MIN_LOG_LEVEL": "3",
}


_INTRAOP = "TF_NUM_INTRAOP_THREADS"
# Two threads for an operation on so small images wait for each other longer than they compute. Steps/s of the digits' model
# on two cores, by one thread and by two: 17.0 and 12.6 at 128 × 128 pixels, 3.7 and 4.0 at 256 × 256. More cores were not
# measured.
_SMALL_PIXELS = 128 * 128
_own: set[str] = set()  # of the variables: what nobody had set

# Fewer, and a replica that waits for another one's tensors can stop itself: with 1 a worker did.
_LEAST_INTEROP_THREADS = 4


def prepare(processes: int = 1) -> None:
    """Sets the variables that TensorFlow reads at import, and silences what its libraries say about themselves.

    processes: how many compute on this machine; each takes its share of the cores.
    """
    os.environ.update(_ALWAYS)
    threads = max(1, _cores() // processes)
    defaults = {
        **_QUIET,
        _INTRAOP: str(threads),
        "TF_NUM_INTEROP_THREADS": str(max(_LEAST_INTEROP_THREADS, threads)),
    }
    _own.update(name for name in defaults if name not in os.environ)
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore")


def suit_images(height: int, width: int) -> None:
    """Lets one thread do an operation where two would be slower. To be called after `prepare`, before TensorFlow computes.

    height, width: of the network's images, in pixels.
    """
    if _INTRAOP in _own and os.environ[_INTRAOP] == "2" and height * width <= _SMALL_PIXELS:
        os.environ[_INTRAOP] = "1"


def _cores() -> int:
    """The processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def quiet_logging() -> None:
    """Keeps what TensorFlow's Python half and absl log out of the way: what matters of it is raised, too.

    To be called after TensorFlow's import, which sets its own levels.
    """
    for name in ("tensorflow", "absl", "tf_keras"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
