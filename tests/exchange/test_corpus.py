"""Real files of other trainers, which lie beside the checkout where they are at hand; they are not ours to copy."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from ti_tui.exchange.foreign_file import flat, parse_data, read_text
from ti_tui.exchange.importing import import_settings
from ti_tui.exchange.programs import PROGRAMS

CORPUS = Path(__file__).parents[3] / "shared" / "corpus"
FILES = sorted(path for path in CORPUS.glob("*") if path.suffix in {".json", ".toml", ".yaml"})


@pytest.mark.skipif(not FILES, reason="there are no files of other trainers in ../shared/corpus")
def test_every_field_of_every_real_file_is_in_the_table_once() -> None:
    for path in FILES:
        found = import_settings(path)
        named = Counter(row.name for row in found.rows if not row.default)
        in_file = [field.name for field in flat(parse_data(read_text(path)), path)]
        assert named == Counter(in_file), path.name
        silent = [row.name for row in found.rows if row.fate in ("changed", "left out") and not (row.note or row.ours)]
        assert silent == [], path.name
        assert found.title.startswith(PROGRAMS[found.program])
        assert "" not in found.needs.values()
