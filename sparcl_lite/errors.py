"""Errors that a user can mend: the command line turns each into one line and exit code 2."""


class KitError(RuntimeError):
    """Wrong input, missing data or an unusable place; the message is one clear line."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows of it: that line, in place of the calls that led to it."""
        return [f"{type(self).__name__}: {self}"]
