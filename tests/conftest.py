"""For all tests."""

from __future__ import annotations

import signal

# Started in the background of a shell, the tests would ignore Ctrl-C, and so would every program that they send it to.
signal.signal(signal.SIGINT, signal.default_int_handler)
