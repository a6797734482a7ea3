"""The one exception that a user is meant to read."""


class UserError(Exception):
    """Something the user can mend: its text says what is wrong, where, and what to do.

    Caught once, in `launcher.cli.main`, printed as `odcloud: error: …`, exit code 2.
    """
