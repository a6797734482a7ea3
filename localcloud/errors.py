"""The error a person sees on the command line."""


class LocalCloudError(Exception):
    """A command of the local cloud cannot do what was asked; the message says what is wrong, where, and what to do."""
