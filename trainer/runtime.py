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
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "TF_NUM_INTEROP_THREADS": str(max(_LEAST_INTEROP_THREADS, threads)),
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore")


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
