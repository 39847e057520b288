"""Reads the settings of another trainer as those of a run, with a table of what became of each field."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ti_tui.exchange import optimisation, subject
from ti_tui.exchange.foreign_file import READ, ForeignField, ForeignSettings, read
from ti_tui.exchange.gathering import Fate, Gathered, Given, ImportedField
from ti_tui.exchange.mapping import NoCounterpart, Program
from ti_tui.exchange.programs import FIELDS, PROGRAMS, counterpart
from ti_tui.exchange.prompts import sample_prompts
from ti_tui.exchange.referenced import with_referenced
from ti_tui.exchange.schedule import schedule
from ti_tui.exchange.unused import unused
from ti_tui.exchange.values import coerced, shown
from ti_tui.run.file import value_of
from ti_tui.run.problems import ProblemsError
from ti_tui.run.scheme import SchemeError
from ti_tui.setup.draft import Draft, in_tables
from ti_tui.setup.fields import recipe_fields

NOTHING_GIVEN = Given()


@dataclass(frozen=True)
class ImportedSettings:
    """What a file comes to.

    rows:   every field of the file, once each; then the program's defaults that were taken.
    fields: run file fields by dotted name. own: photographs, repeats, class_word.
    needs:  what is missing to make a run, each with the option that gives it.
    """

    file: Path
    program: Program
    form: str
    rows: tuple[ImportedField, ...]
    fields: dict[str, Any]
    own: dict[str, str]
    needs: dict[str, str]
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"{PROGRAMS[self.program]}, {self.form}"

    def counts(self) -> Counter[Fate]:
        """How many fields of the file had each fate."""
        return Counter(row.fate for row in self.rows if not row.default)

    def values(self) -> dict[str, dict[str, Any]]:
        """The run file's tables, for `create_run`."""
        return in_tables(self.fields)

    def draft(self) -> Draft:
        """A draft with these settings, for the wizard."""
        draft = Draft(fields={name: value for name, value in self.fields.items() if name in recipe_fields()})
        for name, text in self.own.items():
            draft.set(name, text)
        return draft


def import_settings(path: Path, given: Given = NOTHING_GIVEN) -> ImportedSettings:
    """Read the settings file at `path`. Raises NotSettings."""
    return convert(with_referenced(read(path)), given)


def convert(source: ForeignSettings, given: Given = NOTHING_GIVEN) -> ImportedSettings:
    """Turn the fields of a file into those of a run."""
    g = Gathered(source, given)
    exact: dict[str, Any] = {}
    not_used = unused(source)
    for item in source.fields:
        if item.name in not_used:
            g.rows.append(ImportedField(item.name, shown(item.value), "", "left out", not_used[item.name]))
        elif item.key.startswith("ti_tui:"):
            _own_line(g, item, exact)
        elif item.key == READ:
            value, said = item.value
            fate: Fate = "left out" if said.startswith("left out: ") else "changed"
            g.rows.append(ImportedField(item.name, shown(value), "", fate, said.removeprefix("left out: ")))
        else:
            g.add(item, counterpart(source.program, item.key))
    if source.complete:
        _add_defaults(g)
    for settle in (
        subject.token, subject.start, subject.pictures, subject.model, subject.template, subject.resolution, schedule,
        optimisation.batches, optimisation.optimizer, optimisation.losses, optimisation.noise,
        optimisation.precision, optimisation.saving, sample_prompts,
    ):  # fmt: skip
        settle(g)
    g.fields |= exact
    if "scheme.segments" in exact:
        g.needs.pop("scheme.segments", None)
    rows = tuple(g.finished())
    order = {name: place for place, name in enumerate(recipe_fields())}
    fields = {name: g.fields[name] for name in sorted(g.fields, key=lambda name: order.get(name, len(order)))}
    return ImportedSettings(source.file, source.program, source.form, rows, fields, g.own, g.needs, source.notes)


def _add_defaults(g: Gathered) -> None:
    """What the program takes for fields that the file does not have."""
    said = set(g.parts) | g.off
    for row in FIELDS[g.source.program]:
        if row.default is None or row.part in said - {None} or (row.part is None and row.ours in g.fields):
            continue
        g.add(ForeignField(row.name, row.name, row.default), row, default=True)


def _own_line(g: Gathered, item: ForeignField, exact: dict[str, Any]) -> None:
    """A field of ours that `ti-tui export` kept in a comment: it is taken as it is."""
    name = item.key.removeprefix("ti_tui:")
    try:
        value = value_of(name, str(item.value))
        exact[name] = coerced(name, value)
    except (ProblemsError, NoCounterpart, SchemeError) as error:
        g.rows.append(ImportedField(item.name, str(item.value), "", "left out", str(error)))
        return
    g.rows.append(ImportedField(item.name, str(item.value), f"{name} = {item.value}", "same", "written by ti_tui"))
