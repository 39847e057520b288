"""The run file: round trips, every problem with its line, older and newer forms."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ti_tui.run.file import (
    RunFileError,
    change_field,
    from_values,
    lines_of,
    load,
    parse_run_file,
    problem_with,
    save,
    to_toml,
    toml_text,
    value_of,
    with_value,
)
from ti_tui.run.problems import Problem
from ti_tui.run.recipe import TABLES, RunFile, is_recorded
from ti_tui.run.scheme import Scheme, Segment
from ti_tui.run.toml_lines import key_lines

HERE = Path("run.toml")
SMALLEST = 'format = 1\n[model]\nbase = "m"\n[dataset]\nimages = "i"\n[embedding]\ntoken = "zkz"\n'

TEN_MISTAKES = """format = 1
[model]
base = 3
clip_skp = 2
[dataset]
images = "x"
resolution = 515
flip = "no"
batch_size = 3
[embedding]
token = "a b"
vectors = 0
[scheme]
segments = [
  { learning_rate = 0.05, steps = 10 },
  { learning_rate = -1, steps = 20 },
]
[training]
precision = "fp23"
accumulation = 0
min_timestep = 1500
[evaluatoin]
"""


def problems_of(text: str) -> list[str]:
    with pytest.raises(RunFileError) as caught:
        parse_run_file(text, HERE)
    return [str(problem) for problem in caught.value.problems]


def test_the_smallest_file_gets_every_default() -> None:
    run = parse_run_file(SMALLEST, HERE)
    assert run.embedding.vectors == 12
    assert run.scheme.scheme().total_steps == 3790
    assert run.training.batch_size == "auto"


def test_ten_mistakes_are_reported_together_each_with_its_line_and_field() -> None:
    found = problems_of(TEN_MISTAKES)
    starts = [line.split(": ")[0] + ": " + line.split(": ")[1] for line in found]
    assert starts == [
        "run.toml:3: model.base",
        "run.toml:4: model.clip_skp",
        "run.toml:7: dataset.resolution",
        "run.toml:8: dataset.flip",
        "run.toml:9: dataset.batch_size",
        "run.toml:11: embedding.token",
        "run.toml:12: embedding.vectors",
        "run.toml:14: scheme.segments",
        "run.toml:19: training.precision",
        "run.toml:20: training.accumulation",
        "run.toml:21: training.min_timestep",
        "run.toml:22: evaluatoin",
    ]


def test_an_unknown_key_names_the_nearest_known_one() -> None:
    found = "\n".join(problems_of(TEN_MISTAKES))
    assert "Did you mean clip_skip?" in found
    assert "It belongs under [training]." in found
    assert "Did you mean fp32?" in found


def test_problems_say_what_the_field_takes() -> None:
    found = "\n".join(problems_of(TEN_MISTAKES))
    assert "515 is not a whole number from 16 to 4096, a multiple of 8" in found
    assert "0 is not auto or a whole number from 1 to 1024" in found
    assert "item 2: learning_rate -1 is not a number above 0" in found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "format: is missing"),
        ("format = 2", "made by a newer ti_tui"),
        ("format = 0", "0 is not a version"),
        ('format = "1"', "'1' is not a version"),
        ("format = 1", "the table [model] is missing. Add [model] with base."),
        ("format = 1\nx = [", "not valid TOML"),
        ("format = 1\nformat = 1", "not valid TOML"),
        ('format = 1\nmodel = "m"', "model: is a table"),
        (
            SMALLEST + "[scheme]\nwarmup_steps = 99\n",
            "a warm-up of 99 steps does not fit into the first segment (10 steps)",
        ),
        (SMALLEST + "[scheme]\nsegments = []\n", "scheme.segments: [] is not a list of"),
        (SMALLEST + "[scheme]\nsegments = [3]\n", "item 1: 3 is not a segment"),
        (SMALLEST + "[scheme]\nsegments = [{ learning_rate = 0.1 }]\n", "item 1: steps is missing"),
        (SMALLEST + "[training]\nloss = 1\n", "1 is not one of l2, l1, huber"),
        (SMALLEST + "[training]\nnoise_offset = nan\n", "nan is not a number from 0 to 1"),
        (SMALLEST + "[training]\nflip = true\n", "It belongs under [dataset]"),
        (SMALLEST + "[save]\nformats = ['safetensor']\n", "item 1: 'safetensor' is not one of safetensors"),
    ],
)
def test_each_kind_of_mistake_has_its_message(text: str, says: str) -> None:
    assert says in "\n".join(problems_of(text))


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(RunFileError, match="ti-tui init"):
        load(tmp_path / "run.toml")


def test_a_file_that_is_not_text_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_bytes(b"format = 1 \xff\xfe")
    with pytest.raises(RunFileError, match="not UTF-8"):
        load(tmp_path / "run.toml")


def test_the_file_explains_each_field_in_a_comment() -> None:
    text = to_toml(parse_run_file(SMALLEST, HERE))
    for table in TABLES.values():
        for info in table.model_fields.values():
            assert info.description and (info.description in text) != is_recorded(info)


def test_earlier_rates_stand_in_the_file_only_where_there_are_any() -> None:
    run = parse_run_file(SMALLEST, HERE)
    past = Scheme((Segment(0.01, 90), Segment(0.001, 1)), 5, "cosine")
    changed = run.with_scheme(past.continued(40, (Segment(0.002, 10),)))
    text = to_toml(changed)
    assert "earlier" not in to_toml(run) and "\nearlier = [" in text
    assert parse_run_file(text, HERE) == changed


@pytest.mark.parametrize(
    ("earlier", "says"),
    [
        ("[{ until = 0, segments = [{ learning_rate = 0.1, steps = 5 }] }]", "item 1: until 0 is not valid."),
        ("[{ segments = [{ learning_rate = 0.1, steps = 5 }] }]", "item 1: until is missing."),
        ("[{ until = 6, segments = [{ learning_rate = 0.1, steps = 5 }] }]", "an earlier scheme of 5 steps"),
        ("[{ until = 9999, segments = [{ learning_rate = 0.1, steps = 9999 }] }]", "earlier rates until the steps"),
        ("3", "3 is not valid."),
    ],
)
def test_earlier_rates_that_are_wrong_are_refused_with_their_line(earlier: str, says: str) -> None:
    with pytest.raises(RunFileError) as raised:
        parse_run_file(f"{SMALLEST}\n[scheme]\nearlier = {earlier}\n", HERE)
    (problem,) = raised.value.problems
    assert problem.field == "scheme.earlier" and says in problem.message and problem.line


def test_save_and_load_round_trip(tmp_path: Path) -> None:
    run = parse_run_file(SMALLEST, HERE)
    save(run, tmp_path / "run.toml")
    assert load(tmp_path / "run.toml") == run


texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=30)
values = st.fixed_dictionaries(
    {
        "model": st.fixed_dictionaries({"base": texts}, optional={"vae": texts, "clip_skip": st.integers(1, 12)}),
        "dataset": st.fixed_dictionaries(
            {"images": texts}, optional={"resolution": st.integers(2, 512).map(lambda n: n * 8), "flip": st.booleans()}
        ),
        "embedding": st.fixed_dictionaries(
            {"token": st.from_regex(r"[a-z][a-z0-9_-]{0,20}", fullmatch=True)},
            optional={"init": texts, "vectors": st.integers(1, 75)},
        ),
        "training": st.fixed_dictionaries(
            {},
            optional={
                "batch_size": st.just("auto") | st.integers(1, 64),
                "seed": st.integers(0, 2**63 - 1),
                "noise_offset": st.floats(0, 1),
                "optimizer_arguments": st.dictionaries(
                    texts, st.integers() | st.booleans() | texts | st.floats(0, 1), max_size=3
                ),
            },
        ),
        "scheme": st.fixed_dictionaries(
            {
                "segments": st.lists(
                    st.fixed_dictionaries({"learning_rate": st.floats(1e-9, 10), "steps": st.integers(1, 10**6)}),
                    min_size=1,
                    max_size=5,
                )
            },
            optional={
                "earlier": st.lists(
                    st.fixed_dictionaries(
                        {"segments": st.just([{"learning_rate": 0.5, "steps": 1}])},
                        optional={"shape": st.just("cosine"), "warmup_steps": st.just(1)},
                    ).map(lambda values: {"until": 1, **values}),
                    max_size=1,
                )
            },
        ),
        "sample": st.fixed_dictionaries({}, optional={"prompts": st.lists(texts, max_size=4)}),
    }
)


@given(values)
def test_any_run_file_survives_being_written_and_read(made: dict[str, Any]) -> None:
    run = from_values({"format": 1, **made}, HERE)
    assert parse_run_file(to_toml(run), HERE) == run


@given(values)
@settings(max_examples=30)
def test_the_line_of_every_field_is_where_it_stands(made: dict[str, Any]) -> None:
    text = to_toml(from_values({"format": 1, **made}, HERE))
    lines, rows = key_lines(text), text.split("\n")
    for table, model in TABLES.items():
        for key, info in model.model_fields.items():
            if is_recorded(info) and f"{table}.{key}" not in lines:
                continue
            assert rows[lines[f"{table}.{key}"] - 1].startswith(f"{key} = ")


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_with_problems(text: str) -> None:
    try:
        assert isinstance(parse_run_file(text, HERE), RunFile)
    except RunFileError as error:
        assert error.problems


@pytest.mark.parametrize(
    ("name", "typed", "value"),
    [
        ("training.seed", "7", 7),
        ("training.batch_size", "auto", "auto"),
        ("embedding.token", "123", "123"),
        ("dataset.flip", "true", True),
        ("sample.prompts", '["a", "b"]', ["a", "b"]),
        ("training.optimizer_arguments", "{ eps = 1e-6 }", {"eps": 1e-6}),
    ],
)
def test_a_typed_value_becomes_what_the_field_holds(name: str, typed: str, value: Any) -> None:
    made: dict[str, Any] = {}
    with_value(made, name, typed)
    table, key = name.split(".")
    assert made == {table: {key: value}}


def test_a_typed_name_that_does_not_exist_names_the_nearest() -> None:
    with pytest.raises(RunFileError, match=r"Did you mean training\.seed\?"):
        with_value({}, "training.sead", "7")


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ('[dataset]\nimages = "img"\nmasks = false\n', '[dataset]\nimages = "img"\nmasks = true\n'),
        ('[dataset]\nmasks=false # faces\nimages = "img"\n', '[dataset]\nmasks = true  # faces\nimages = "img"\n'),
        ('[dataset] # mine\nimages = "img"\n', '[dataset] # mine\nmasks = true\nimages = "img"\n'),
    ],
    ids=["there", "with-comment", "not-there"],
)
def test_a_field_is_changed_and_nothing_else(tmp_path: Path, dataset: str, expected: str) -> None:
    path = tmp_path / "run.toml"
    text = '# my run\nformat = 1\n{}\n[model]\nbase = "m"   # the good one\n[embedding]\ntoken = "zkz"\n'
    path.write_text(text.format(dataset))
    change_field(path, "dataset.masks", True)
    assert path.read_text() == text.format(expected)


def test_a_field_in_a_table_of_one_line_is_changed_too(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    rest = 'format = 1\nmodel = { base = "m" }\nembedding = { token = "zkz" }\n'
    for dataset in ('dataset = { images = "a # b", masks = false }', 'dataset = { images = "a # b" }'):
        path.write_text(rest + dataset)
        before = load(path)
        change_field(path, "dataset.masks", True)
        after = load(path)
        assert after.dataset.masks and after.dataset.images == "a # b"
        assert after.model_copy(update={"dataset": before.dataset}) == before


@pytest.mark.parametrize(
    ("more", "field", "line", "remedy"),
    [
        ("[scheme]\nsegments=[{learning_rate=0.1, steps=5, stps=3}]", "scheme.segments", 9, "Did you mean steps?"),
        ("[scheme]\nsegments=[{learning_rate=0.1, steps=5, x=3}]", "scheme.segments", 9, "Write { learning_rate = "),
        ("[scheme]\nsegments=[{learning_rate=0.1, steps=0}]", "scheme.segments", 9, ""),
        ("[scheme]\nsegments=[{learning_rate=0.1, steps=5}, 7]", "scheme.segments", 9, "Write { learning_rate = "),
        ("[scheme]\nsegments=[{learning_rate=0.1}]", "scheme.segments", 9, "Write { learning_rate = "),
        ("[save]\n\nformats=['safetensor']", "save.formats", 10, "Did you mean safetensors?"),
        ("[training]\nprecision='fp15'", "training.precision", 9, "Did you mean fp16?"),
        ("[training]\nprecision='zzz'", "training.precision", 9, ""),
        ("[training]\nprecision=3", "training.precision", 9, ""),
        ("[training]\nxyz=3", "training.xyz", 9, "[training] has: batch_size, accumulation, "),
        ("[training]\nsead=3", "training.sead", 9, "Did you mean seed?"),
        ("[training]\nflip=true", "training.flip", 9, "It belongs under [dataset]."),
        ("[traning]", "traning", 8, "Did you mean [training]?"),
        ("[qqq]", "qqq", 8, ""),
        ("[vectors]", "vectors", 8, "It belongs under [embedding]."),
        ("[training]\nmin_timestep=5\nmax_timestep=5", "training.min_timestep", 9, ""),
        ("[scheme]\nwarmup_steps=11", "scheme.warmup_steps", 9, ""),
        ("[model.x]", "model.x", 8, "[model] has: base, "),
    ],
)
def test_each_mistake_has_its_field_its_line_and_its_remedy(more: str, field: str, line: int, remedy: str) -> None:
    (problem,) = parsed_problems(SMALLEST + more)
    assert (problem.severity, problem.file, problem.field, problem.line) == ("error", HERE, field, line)
    assert problem.remedy.startswith(remedy) and bool(problem.remedy) == bool(remedy)


def parsed_problems(text: str) -> list[Problem]:
    with pytest.raises(RunFileError) as caught:
        parse_run_file(text, HERE)
    return caught.value.problems


def test_a_mistake_in_toml_has_the_line_that_the_parser_names() -> None:
    (problem,) = parsed_problems('format = 1\n[model]\nbase = "m" x\n')
    assert problem.line == 3 and problem.file == HERE and problem.remedy
    assert "(at line" not in problem.message and not problem.field
    (problem,) = parsed_problems("format = 1\nx = [")
    assert problem.line is None


def test_a_missing_format_is_one_problem_however_wrong_the_rest_is() -> None:
    texts_and_lines = (("[model]\nx = 1\n", None), ("\nformat = true\n", 2), ("format = 2\n[x]", 1), ("format = -1", 1))
    for text, line in texts_and_lines:
        (problem,) = parsed_problems(text)
        assert (problem.field, problem.line, problem.file) == ("format", line, HERE) and problem.remedy


def test_a_missing_field_says_what_it_takes_and_is_for() -> None:
    (problem,) = parsed_problems(SMALLEST.replace('token = "zkz"', ""))
    assert (problem.field, problem.line, problem.message) == ("embedding.token", 6, "is missing")
    assert "text in quotes" in problem.remedy
    assert str(TABLES["embedding"].model_fields["token"].description) in problem.remedy
    missing = parsed_problems("format = 1\n")
    assert [problem.field for problem in missing] == ["model", "dataset", "embedding"]
    assert [problem.remedy for problem in missing] == [
        "Add [model] with base.", "Add [dataset] with images.", "Add [embedding] with token.",
    ]  # fmt: skip


def test_a_table_that_is_no_table_says_how_to_write_one() -> None:
    (problem,) = parsed_problems(SMALLEST.replace("format = 1", "format = 1\ntraining = 3"))
    assert (problem.field, problem.line) == ("training", 2) and "[training]" in problem.remedy


def test_fields_are_compared_only_where_each_is_right_by_itself() -> None:
    one = parsed_problems(SMALLEST + "[training]\nseed=-1\nmin_timestep=999\nmax_timestep=9")
    assert [problem.field for problem in one] == ["training.seed"]
    both = parsed_problems(SMALLEST + "[scheme]\nwarmup_steps=99\n[training]\nmin_timestep=900\nmax_timestep=9\n")
    assert [problem.field for problem in both] == ["scheme.warmup_steps", "training.min_timestep"]


@pytest.mark.parametrize(("letters", "shown"), [(58, "'" + "x" * 58 + "'"), (59, "'" + "x" * 56 + "...")])
def test_a_long_value_is_shortened_in_a_message(letters: int, shown: str) -> None:
    (problem,) = parsed_problems(f'{SMALLEST}[training]\nseed = "{"x" * letters}"\n')
    assert problem.message.startswith(f"{shown} is not a whole number")
    (problem,) = parsed_problems(f"{SMALLEST}[training]\nseed = true\n")
    assert problem.message.startswith("true is not")


def test_problems_of_a_union_are_told_once() -> None:
    assert len(parsed_problems(SMALLEST + '[training]\nbatch_size = "all"\naccumulation = 0.5\n')) == 2


def test_the_problem_with_one_value_alone() -> None:
    assert problem_with("training.seed", 5) is None and problem_with("scheme.warmup_steps", 10**6) is None
    found = problem_with("training.seed", -5)
    assert found is not None and found.field == "training.seed" and found.message.startswith("-5 is not")
    assert problem_with("training.nope", 1) is not None


@pytest.mark.parametrize(
    ("name", "typed", "value"),
    [
        ("embedding.token", '"zkz"', "zkz"),
        ("embedding.token", "true", "true"),
        ("training.seed", "hello world", "hello world"),
        ("training.loss", "l1", "l1"),
        ("training.batch_size", "4", 4),
        ("training.batch_size", '"auto"', "auto"),
    ],
)
def test_a_value_is_meant_as_toml_where_it_is(name: str, typed: str, value: Any) -> None:
    assert value_of(name, typed) == value


@pytest.mark.parametrize("name", ["seed", "training", "training.", "nope.seed", "training.nope", ".seed"])
def test_a_name_that_the_run_file_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(RunFileError) as caught:
        value_of(name, "1")
    (problem,) = caught.value.problems
    assert problem.field == name and problem.remedy and problem.severity == "error"
    assert "None" not in problem.remedy


def test_a_typed_value_joins_those_that_are_there() -> None:
    values: dict[str, Any] = {"training": {"loss": "l1"}}
    with_value(values, "training.seed", "3")
    with_value(values, "dataset.flip", "true")
    assert values == {"training": {"loss": "l1", "seed": 3}, "dataset": {"flip": True}}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", '"a"'),
        ('a"b', '"a\\"b"'),
        (True, "true"),
        (1.5, "1.5"),
        ([], "[]"),
        (["a", "b"], '["a", "b"]'),
        (["x" * 30], '["' + "x" * 30 + '"]'),
        (["x" * 22, "b"], '["' + "x" * 22 + '", "b"]'),
        (["x" * 23, "b"], '[\n  "' + "x" * 23 + '",\n  "b",\n]'),
        ({}, "{}"),
        ({"a": 1, "b c": [True]}, '{ a = 1, "b c" = [true] }'),
        (TABLES["save"](), None),
    ],
)
def test_values_are_written_as_toml(value: Any, text: str | None) -> None:
    written = toml_text(value)
    assert text is None or written == text
    plain = value.model_dump() if text is None else value
    assert tomllib.loads(f"x = {written}")["x"] == plain


def test_a_run_file_is_written_table_by_table_with_what_each_field_takes() -> None:
    text = to_toml(parse_run_file(SMALLEST, HERE))
    assert text.startswith("# ") and "\n\nformat = 1\n\n[model]\n# " in text and text.endswith("\n")
    rows = text.split("\n")

    def comment(field: str) -> str:
        return rows[key_lines(text)[field] - 2]

    assert comment("embedding.vectors").endswith("(a whole number from 1 to 75)")
    assert comment("dataset.resolution").endswith("(a whole number from 16 to 4096, a multiple of 8; pixels)")
    # Where it is plain what a field takes, nothing is added.
    for field in ("model.base", "scheme.segments", "training.optimizer_arguments"):
        table, key = field.split(".")
        assert comment(field) == f"# {TABLES[table].model_fields[key].description}"


def test_the_lines_of_a_file_that_cannot_be_read_are_none(tmp_path: Path) -> None:
    assert lines_of(tmp_path / "none") == {}
    (tmp_path / "run.toml").write_bytes(b"a = 1\n\xff")
    assert lines_of(tmp_path / "run.toml") == {}
    (tmp_path / "run.toml").write_text(SMALLEST)
    assert lines_of(tmp_path / "run.toml")["dataset.images"] == 5


def test_a_field_of_a_table_that_is_not_there_is_written_with_all_others(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(SMALLEST)
    change_field(path, "training.seed", 7)
    assert load(path).training.seed == 7 and "[training]" in path.read_text()
    assert path.read_text() == to_toml(load(path))


def test_a_file_with_a_byte_order_mark_is_read_and_a_folder_is_not(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_bytes(b"\xef\xbb\xbf" + SMALLEST.encode())
    assert load(tmp_path / "run.toml").model.base == "m"
    for path in (tmp_path, tmp_path / "none.toml"):
        with pytest.raises(RunFileError) as caught:
            load(path)
        assert caught.value.problems[0].file == path
