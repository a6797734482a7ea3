"""The process's environment for TensorFlow: to be prepared before TensorFlow is imported anywhere in it."""

from __future__ import annotations

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


def prepare() -> None:
    """Sets the variables that TensorFlow reads at import, and silences what its libraries say about themselves."""
    os.environ.update(_ALWAYS)
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore")


def quiet_logging() -> None:
    """Keeps warnings of TensorFlow's Python half and of absl out of the log; errors stay."""
    import logging

    for name in ("tensorflow", "absl", "tf_keras"):
        logging.getLogger(name).setLevel(logging.ERROR)
