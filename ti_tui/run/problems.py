"""Problems: what is wrong, where, and what to do; collected so that all are shown together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from ti_tui.errors import UserError

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class Problem:
    """A problem. An `error` keeps a run from starting; `warning` and `info` are only shown.

    field:   dotted name in the run file (`training.batch_size`), or "".
    line:    counted from 1; None if the field is not in the file.
    subject: the image or caption file that it is about, if any.
    kind:    one word for what was found (`blurred`, `same-file`), for code that selects by it; otherwise "".
    """

    severity: Severity
    message: str
    field: str = ""
    remedy: str = ""
    file: Path | None = None
    line: int | None = None
    subject: Path | None = None
    kind: str = ""

    def __str__(self) -> str:
        place = ""
        if self.file is not None:
            place = f"{self.file}:{self.line}: " if self.line else f"{self.file}: "
        name = f"{self.field}: " if self.field else ""
        return f"{place}{name}{self.sentence}"

    @property
    def sentence(self) -> str:
        """What is wrong and what to do, without the place."""
        message = self.message if self.message.endswith((".", "?", "!")) else f"{self.message}."
        return f"{message} {self.remedy}".rstrip()


@dataclass
class Problems:
    """A list of problems; a run may start if it has no errors."""

    found: list[Problem] = field(default_factory=list)

    def error(
        self, message: str, *, field: str = "", remedy: str = "", subject: Path | None = None, kind: str = ""
    ) -> None:
        self.found.append(Problem("error", message, field, remedy, subject=subject, kind=kind))

    def warning(
        self, message: str, *, field: str = "", remedy: str = "", subject: Path | None = None, kind: str = ""
    ) -> None:
        self.found.append(Problem("warning", message, field, remedy, subject=subject, kind=kind))

    def info(
        self, message: str, *, field: str = "", remedy: str = "", subject: Path | None = None, kind: str = ""
    ) -> None:
        self.found.append(Problem("info", message, field, remedy, subject=subject, kind=kind))

    def add(self, problems: Iterable[Problem]) -> None:
        self.found.extend(problems)

    def placed(self, file: Path, lines: dict[str, int]) -> Problems:
        """The same problems with file and line filled in for those that name a field."""
        return Problems(
            [
                replace(problem, file=file, line=line_of(problem.field, lines))
                if problem.field and problem.file is None
                else problem
                for problem in self.found
            ]
        )

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.found if problem.severity == "error"]

    def __iter__(self) -> Iterator[Problem]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def __bool__(self) -> bool:
        return bool(self.found)


class ProblemsError(UserError):
    """Several problems at once; `str()` has one line for each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def worst_first(problems: Iterable[Problem]) -> list[Problem]:
    """Errors, then warnings, then the rest; within each, in the order in which they were found."""
    order: tuple[Severity, ...] = ("error", "warning", "info")
    return sorted(problems, key=lambda problem: order.index(problem.severity))


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was most likely meant by `word`, or None if none is close."""
    import difflib

    found = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def line_of(name: str, lines: dict[str, int]) -> int | None:
    """Line number of a dotted name, or of the table that contains it."""
    while name:
        if name in lines:
            return lines[name]
        name = name.rpartition(".")[0]
    return None
