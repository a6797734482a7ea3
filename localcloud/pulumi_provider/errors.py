"""The error that Pulumi shows for one resource."""


class ProviderError(Exception):
    """What was asked of a resource cannot be done; the message is one line for the user."""
