"""The one exception that is meant for people."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can fix: one line that names the file or key, what is wrong and what to do.

    Stages print the message without a traceback and exit with `exit_code`; any other exception is a bug.
    """

    exit_code = 2

    def __init__(self, where: str, wrong: str, remedy: str) -> None:
        self.where, self.wrong, self.remedy = where, wrong, remedy
        # Names and texts of strangers' files may hold line breaks, or sequences that a terminal obeys.
        super().__init__(_printable(f"{where}: {wrong}; {remedy}"))

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str, str]]:
        """Exceptions are sent between processes as type and message, which are not what this one is made from."""
        return type(self), (self.where, self.wrong, self.remedy)


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
