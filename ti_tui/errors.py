"""Errors that are meant for people: every package raises them, the command line prints them."""

from __future__ import annotations


class UserError(Exception):
    """Something that the user can fix: what is wrong, where, and what to do.

    `str()` gives one to three lines. `exit_status` is the exit status of the command line.
    """

    exit_status = 2

    def __init__(self, message: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.remedy = remedy

    @property
    def sentence(self) -> str:
        """What is wrong and what to do, on one line, without the place."""
        return f"{self.message.rstrip('.')}. {self.remedy}".strip()

    def __str__(self) -> str:
        first = f"{self.where}: {self.message}" if self.where else self.message
        return f"{first}\n{self.remedy}" if self.remedy else first


def first_line(error: BaseException) -> str:
    """The first line of a library's error, shortened; its class if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


class TrainingError(UserError):
    """A run that stopped while training; its folder is intact and the run can be resumed."""

    exit_status = 3
