"""What the writers for other programs give back."""

from __future__ import annotations

from dataclasses import dataclass

from ti_tui.exchange.foreign_file import ForeignField


@dataclass(frozen=True)
class WrittenSettings:
    """The settings of a run as another program reads them.

    files:       their texts by name.
    fields:      the fields in them, as import would find them.
    command:     what starts the training there.
    comments_in: the file that can hold what the program has no field for, as comments; None if none can.
    """

    files: dict[str, str]
    fields: tuple[ForeignField, ...]
    command: str
    comments_in: str | None = None
