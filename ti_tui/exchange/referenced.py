"""Reads the files that a settings file names: a config, a data set, concepts, samples. Their fields join its own."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ti_tui.exchange import command_line
from ti_tui.exchange.foreign_file import (
    READ,
    ForeignField,
    ForeignSettings,
    NotSettings,
    flat,
    parse_data,
    read_text,
)
from ti_tui.exchange.paths_in_files import found_path
from ti_tui.exchange.values import is_empty, shown

NAMES_FILES = {
    "dataset_config": "", "config_file": "", "concept_file_name": "concepts", "sample_definition_file_name": "samples",
}  # fmt: skip
"""Fields that name a file with more of them, and under which name these stand in the file itself."""


def with_referenced(source: ForeignSettings) -> ForeignSettings:
    """`source` with the fields of the files that it names, as far as they are here."""
    fields = [inner for item in source.fields for inner in _expanded(item, source)]
    return replace(source, fields=tuple(_regularisation_apart(fields)))


def _expanded(item: ForeignField, source: ForeignSettings) -> Iterator[ForeignField]:
    name = item.key.rpartition(".")[2]
    if is_empty(item.value):
        yield item
    elif name == "additional_parameters":
        yield from _extra_options(item)
    elif name in NAMES_FILES:
        yield from _of_file(item, NAMES_FILES[name], source)
    else:
        yield item


def _extra_options(item: ForeignField) -> Iterator[ForeignField]:
    """The GUI's field for further options of the script."""
    try:
        options, _ = command_line.options(shlex.split(str(item.value)))
    except ValueError as error:
        yield ForeignField(item.name, READ, (item.value, f"left out: {error}"))
        return
    yield ForeignField(item.name, READ, (item.value, f"read as {len(options)} options"))
    yield from (ForeignField(f"{item.name} --{option.name}", option.name, option.value) for option in options)


def _of_file(item: ForeignField, under: str, source: ForeignSettings) -> Iterator[ForeignField]:
    path = found_path(str(item.value), source.file.parent)
    if path is None:
        # Programs keep such files in their own folder, above the one with the settings.
        path = found_path(str(item.value), source.file.parent.parent)
    if path is None:
        yield ForeignField(item.name, READ, (item.value, "left out: there is no such file here"))
        return
    try:
        data: Any = parse_data(read_text(path))
        inner = list(flat({under: data} if under else data, path))
    except NotSettings as error:
        yield ForeignField(item.name, READ, (item.value, f"left out: {error.message}"))
        return
    except ValueError as error:
        yield ForeignField(item.name, READ, (item.value, f"left out: it cannot be read: {error}"))
        return
    yield ForeignField(item.name, READ, (item.value, f"{len(inner)} fields are read from it"))
    yield from (replace(found, name=f"{shown(path.name)}: {found.name}") for found in inner)


def _regularisation_apart(fields: list[ForeignField]) -> Iterator[ForeignField]:
    """kohya's subsets of regularisation images: their folder is not one of photographs."""
    apart = {
        item.name.rpartition(".")[0]
        for item in fields
        if item.key.endswith("subsets.*.is_reg") and str(item.value).lower() == "true"
    }
    for item in fields:
        place, _, name = item.name.rpartition(".")
        key = {"image_dir": "reg_data_dir", "num_repeats": "regularisation_repeats"}.get(name)
        yield replace(item, key=key) if place in apart and key else item
