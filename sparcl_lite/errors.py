"""Errors that a user can mend: the command line turns each into one line and exit code 2."""


class KitError(RuntimeError):
    """Wrong input, missing data or an unusable place; the message is one clear line."""
