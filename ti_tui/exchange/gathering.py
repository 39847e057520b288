"""Collects what the fields of a foreign file say, and what becomes of each; `subject`, `optimisation`, `schedule`
and `prompts` settle those that go together."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ti_tui.exchange.foreign_file import ForeignField, ForeignSettings
from ti_tui.exchange.mapping import UNSET, Counterpart, NoCounterpart, Part
from ti_tui.exchange.values import coerced, is_empty, is_off, shown

Fate = Literal["same", "changed", "left out", "not set"]
SPELLING = "written differently here"
SECRET = re.compile(r"(api_?key|(hub|huggingface|hf)_token|password|secret)", re.IGNORECASE)
"""Names of fields whose values are not printed."""

_DATASET = re.compile(r"(^|: )(datasets|general)\.")
"""The name of a field in sd-scripts' dataset config, which a file may stand before."""


@dataclass(frozen=True)
class ImportedField:
    """A row of the table: a field of the file and what became of it.

    name, value: as in the file. ours: `field = value` here, "" if nothing is set. note: how it changed, or why it is
    left out. default: it is not in the file; the program would take this value.
    """

    name: str
    value: str
    ours: str
    fate: Fate
    note: str = ""
    default: bool = False


@dataclass(frozen=True)
class Given:
    """What the person gave beside the file; it wins. Empty: nothing."""

    images: str = ""
    model: str = ""
    token: str = ""


@dataclass
class Contribution:
    """A field that decides together with others, with its value; row: what became of it, None until it is settled."""

    source: ForeignField
    counterpart: Counterpart
    value: Any
    default: bool = False
    row: ImportedField | None = None

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def place(self) -> str:
        """The table in which it stands; "" for the outermost."""
        return self.source.name.rpartition(".")[0]


@dataclass
class Gathered:
    """The run's settings as they are found.

    fields:  run file fields by dotted name. own: the others (see `setup.fields.OWN`).
    setters: the name of the field of the file that set each of them.
    off:     parts that the file says are not used, so that no default of the program takes their place.
    needs:   what is missing to make a run, each with the option that gives it.
    """

    source: ForeignSettings
    given: Given
    fields: dict[str, Any] = field(default_factory=dict)
    own: dict[str, str] = field(default_factory=dict)
    setters: dict[str, str] = field(default_factory=dict)
    parts: dict[Part, list[Contribution]] = field(default_factory=dict)
    rows: list[ImportedField | Contribution] = field(default_factory=list)
    needs: dict[str, str] = field(default_factory=dict)
    off: set[Part] = field(default_factory=set)

    @property
    def folder(self) -> Path:
        """The folder of the file, which its relative paths may count from."""
        return self.source.file.parent

    def add(self, item: ForeignField, row: Counterpart | None, *, default: bool = False) -> None:
        """Take in a field by its row in the program's table; None if it is not there."""
        if SECRET.search(item.key) and not is_off(item.value):
            item = replace(item, value="(not shown)")
        if not default and is_empty(item.value):
            self.rows.append(ImportedField(item.name, shown(item.value), "", "not set"))
            return
        if row is None or row.left_out:
            self._tell(item, *_without_counterpart(item.value, row))
            return
        try:
            value = row.convert(item.value) if row.convert else item.value
            if row.part is None and value is not UNSET and "." in row.ours:
                value = coerced(row.ours, value)
        except NoCounterpart as error:
            self._tell(item, "left out", note=str(error), default=default)
            return
        if row.part is not None:
            found = Contribution(item, row, value, default)
            self.rows.append(found)
            if value is UNSET:
                if row.part not in ("steps", "epochs", "epochs before steps"):
                    self.off.add(row.part)
                found.row = ImportedField(item.name, shown(item.value), "", "same", _of_nothing(row), default)
            else:
                self.parts.setdefault(row.part, []).append(found)
            return
        self._direct(item, row, value, default=default)

    def _direct(self, item: ForeignField, row: Counterpart, value: Any, *, default: bool) -> None:
        if value is UNSET or "." not in row.ours:
            self._tell(item, "same" if is_off(item.value) else "changed", note=row.note or "off here too")
            return
        if row.ours in self.fields and self.fields[row.ours] != value:
            self._tell(item, "left out", note=f"{self.setters[row.ours]} decides")
            return
        self.set(row.ours, value, by=item.name)
        alike = row.convert is None or value == item.value
        self._tell(item, "same" if alike else "changed", self.show(row.ours), "" if alike else row.note, default)

    def _tell(self, item: ForeignField, fate: Fate, ours: str = "", note: str = "", default: bool = False) -> None:
        self.rows.append(ImportedField(item.name, shown(item.value), ours, fate, note, default))

    def assume(self, theirs: str, value: Any, ours: str, taken: Any) -> None:
        """Set a field to what follows from a default of the program."""
        self.set(ours, taken)
        self._tell(ForeignField(theirs, theirs, value), "changed", self.show(ours), "that program's default", True)

    def set(self, name: str, value: Any, *, by: str = "") -> None:
        """Set a run file field to a value that is known to be valid."""
        self.fields[name] = value
        self.setters[name] = by

    def show(self, *names: str) -> str:
        """`field = value` of run file fields that are set, or of the others."""
        return ", ".join(f"{name} = {shown(self._value(name))}" for name in names)

    def _value(self, name: str) -> Any:
        from ti_tui.run.scheme import format_scheme, segments_from_values

        if name == "scheme.segments" and name in self.fields:
            return format_scheme(segments_from_values(self.fields[name]))
        return self.fields.get(name, self.own.get(name, ""))

    def all_of(self, part: Part) -> list[Contribution]:
        """Every contribution of a kind that is not settled."""
        return [found for found in self.parts.get(part, ()) if found.row is None]

    def first(self, part: Part) -> Contribution | None:
        """The contribution that decides; the others are settled as left out."""
        found = sorted(self.all_of(part), key=_rank)
        for other in found[1:]:
            alike = other.value == found[0].value
            self.settle(other, "same" if alike else "left out", note=f"{found[0].name} decides")
        return found[0] if found else None

    def value(self, part: Part, otherwise: Any = None) -> Any:
        """The value that decides, settled or not; `otherwise` if there is none."""
        found = sorted(self.parts.get(part, ()), key=_rank)
        return found[0].value if found else otherwise

    def settle(self, found: Contribution | None, fate: Fate, ours: str = "", note: str = "") -> None:
        """Say what became of a field, once."""
        if found is not None and found.row is None:
            found.row = ImportedField(found.name, shown(found.source.value), ours, fate, note, found.default)

    def finished(self) -> Iterable[ImportedField]:
        """All rows, in the order of the file; defaults of the program last, and only those that matter."""
        for entry in self.rows:
            if isinstance(entry, Contribution):
                # No field is dropped silently, whatever the conversions forget.
                self.settle(entry, "left out", note="nothing here follows from it")
        rows = [entry.row if isinstance(entry, Contribution) else entry for entry in self.rows]
        told = [row for row in rows if row is not None]
        for row in told:
            if not row.default:
                yield replace(row, note=row.note or SPELLING) if row.fate == "changed" else row
        for row in told:
            if row.default and row.ours and row.fate != "left out":
                yield replace(row, fate="changed", note="that program's default")


def _without_counterpart(value: Any, row: Counterpart | None) -> tuple[Fate, str, str]:
    """Fate, ours and note of a field that nothing here corresponds to."""
    off = is_off(value)
    if row is not None and row.always:
        return "changed" if off else "same", "", row.note
    if off:
        return "same", "", "off here too"
    if row is None:
        return "left out", "", "it is not known here"
    return "same" if str(value).strip().lower() in row.harmless else "left out", "", row.note


def _of_nothing(row: Counterpart) -> str:
    return row.note or "not used there, nor here"


def _rank(found: Contribution) -> tuple[bool, bool]:
    """Sort key: what the file says before the program's defaults, and what goes before the others there.

    sd-scripts takes the dataset config before the command line.
    """
    return found.default, not (found.counterpart.prior or _DATASET.search(found.name) is not None)
