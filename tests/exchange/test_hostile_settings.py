"""Files that are damaged or made to do harm, and files of any content."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.exchange.writing import imported
from ti_tui import bounded
from ti_tui.exchange import command_line
from ti_tui.exchange.foreign_file import ForeignField, ForeignSettings, NotSettings, flat, read
from ti_tui.exchange.importing import convert, import_settings
from ti_tui.exchange.programs import FIELDS, PROGRAMS
from ti_tui.run.file import problem_with

BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(24)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} {{<<: [{', '.join(['*' + chr(97 + n)] * 9)}]}}\n" for n in range(7)
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no settings of a known trainer"),
        ("{", "not valid JSON"),
        ('{"a": NaN}', "not valid JSON"),
        ('{"a": 1}', "not the settings of a known trainer"),
        ("[" * 5000, "valid"),
        ("a = 1\nb =\n", "not valid TOML"),
        ('image_dir = "C:\\Users\\me"\n', "single quotes"),
        ("type: TEXTUAL_INVERSION_SD\nx: " + "[" * 2000, "valid YAML"),
        ("job: x\na: {b: 1\n", "valid YAML"),
        (BOMB, "a known trainer"),
        ("x: &x [1]\n" + "y: [" + "*x, " * 200 + "]", "aliases"),
        ("accelerate launch train_textual_inversion.py --prompt 'open", "cannot be read"),
        ("accelerate launch train_textual_inversion.py " + "--a 1 " * 20000, "longer than"),
        (MERGES, "a known trainer"),
    ],
)
def test_what_is_no_settings_file_is_refused_in_words(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(NotSettings) as caught:
        imported(tmp_path, content)
    assert said in str(caught.value)


def test_merges_that_multiply_are_refused() -> None:
    text = "a: &a {" + ", ".join(f"k{n}: 1" for n in range(3000)) + "}\nb: {<<: [" + ", ".join(["*a"] * 60) + "]}\n"
    with pytest.raises(ValueError, match="merged too often"):
        bounded.parse_yaml(text)


def test_yaml_that_holds_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotSettings, match="nested too deeply"):
        imported(tmp_path, "type: TEXTUAL_INVERSION_SD\nplaceholder_token: x\ndata_loader: &a\n  b: *a\n")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_pipes_and_folders_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "none", Path("/dev/zero")):
        with pytest.raises(NotSettings):
            read(path)


def test_a_file_that_names_itself_is_read_once(tmp_path: Path) -> None:
    found = imported(tmp_path, 'config_file = "settings"\noutput_name = "x"\ntoken_string = "zkz"\n')
    assert found.fields["embedding.token"] == "zkz"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_encodings_of_windows(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "settings.json"
    path.write_bytes(
        json.dumps({"token_string": "zkz", "init_word": "Mädchen", "seed": 3}, ensure_ascii=False).encode(encoding)
    )
    assert import_settings(path).fields["embedding.init"] == "Mädchen"


PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20), st.sampled_from(["1e-3", "0", "None", "512,512", "adamw", "cosine", "a=1 b=2", "[1", "8.0"]),
)  # fmt: skip
VALUES = st.one_of(PLAIN, st.lists(PLAIN, max_size=3), st.dictionaries(st.text(max_size=5), PLAIN, max_size=3))


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=st.sampled_from(list(PROGRAMS)), data=st.data())
def test_any_values_of_known_fields_give_valid_fields_and_one_row_each(program: Any, data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from([row.name for row in FIELDS[program]]), max_size=12, unique=True))
    fields = tuple(ForeignField(name.replace("*", "0"), name, data.draw(VALUES)) for name in names)
    found = convert(ForeignSettings(Path("/nowhere/x"), program, "x", fields))
    assert Counter(row.name for row in found.rows if not row.default) == Counter(field.name for field in fields)
    for name, value in found.fields.items():
        assert problem_with(name, value) is None, (name, value)


@given(st.text(max_size=300))
def test_any_text_is_settings_or_refused(text: str) -> None:
    for content in (text, f"accelerate launch train_textual_inversion.py {text}"):
        try:
            command_line.parse(content)
        except ValueError:
            continue
    with contextlib.suppress(ValueError, NotSettings):
        list(flat(bounded.parse_yaml(text), Path("x")))


OPTION = st.tuples(
    st.from_regex(r"[a-z][a-z_]{0,12}", fullmatch=True),
    st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1),
)


@given(
    st.lists(OPTION, max_size=8, unique_by=lambda option: option[0]), st.sampled_from([" ", " \\\n  "]), st.booleans()
)
def test_options_are_read_back(options: list[tuple[str, str]], joint: str, equals: bool) -> None:
    words = [f"--{name}{'=' if equals else ' '}'{value}'" for name, value in options]
    found = command_line.parse(joint.join(["accelerate launch x/train_textual_inversion.py", *words]) + "\n")
    assert [(option.name, option.value) for option in found.options] == options
