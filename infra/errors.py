"""The one error of the stack program."""

import pulumi


class StackError(pulumi.RunError):
    """Something in the stack's configuration or sources is wrong; Pulumi shows the message without a traceback."""
