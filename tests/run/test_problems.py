"""Problems: their sentence, their place, their order."""

from __future__ import annotations

from pathlib import Path

from ti_tui.run.problems import Problem, Problems, ProblemsError, line_of, nearest, worst_first

FILE = Path("run.toml")


def test_a_problem_reads_as_a_sentence_with_its_place() -> None:
    assert str(Problem("error", "is wrong")) == "is wrong."
    assert str(Problem("error", "is wrong", "a.b", "Mend it.", FILE, 3)) == "run.toml:3: a.b: is wrong. Mend it."
    assert str(Problem("error", "is wrong", remedy="Mend it.", file=FILE)) == "run.toml: is wrong. Mend it."
    for end in ".?!":
        assert Problem("error", f"is wrong{end}").sentence == f"is wrong{end}"


def test_problems_are_collected_with_all_that_is_said_of_them() -> None:
    found = Problems()
    assert not found and len(found) == 0
    subject = Path("a.png")
    for add in (found.error, found.warning, found.info):
        add("message", field="a.b", remedy="remedy", subject=subject, kind="blurred")
    assert list(found) == [
        Problem(severity, "message", "a.b", "remedy", None, None, subject, "blurred")
        for severity in ("error", "warning", "info")
    ]
    assert found and len(found) == 3 and found.errors == [found.found[0]]
    plain = Problems()
    for add in (plain.error, plain.warning, plain.info):
        add("message")
    assert list(plain) == [Problem(severity, "message") for severity in ("error", "warning", "info")]
    found.add(plain)
    assert len(found) == 6 and len(found.errors) == 2


def test_problems_of_fields_are_placed_in_the_file() -> None:
    elsewhere = Problem("error", "m", "a.b", file=Path("other"))
    found = Problems([Problem("error", "m", "a.b"), Problem("error", "m", "a.c"), Problem("error", "m"), elsewhere])
    placed = list(found.placed(FILE, {"a": 1, "a.b": 2}))
    assert [(problem.file, problem.line) for problem in placed] == [
        (FILE, 2), (FILE, 1), (None, None), (Path("other"), None),
    ]  # fmt: skip


def test_the_line_of_a_field_is_that_of_the_nearest_table_that_holds_it() -> None:
    lines = {"a": 1, "a.b": 2, "a.b.c": 3}
    assert [line_of(name, lines) for name in ("a.b.c", "a.b.x.y", "a.x", "x.y", "")] == [3, 2, 1, None, None]


def test_errors_come_first_and_each_kind_in_its_order() -> None:
    problems = [Problem(severity, name) for severity, name in
                (("info", "1"), ("error", "2"), ("warning", "3"), ("error", "4"), ("info", "5"))]  # fmt: skip
    assert [problem.message for problem in worst_first(problems)] == ["2", "4", "3", "1", "5"]


def test_an_error_of_several_problems_has_a_line_for_each() -> None:
    error = ProblemsError(iter([Problem("error", "one"), Problem("error", "two")]))
    assert str(error) == "one.\ntwo." and len(error.problems) == 2


def test_the_nearest_word_is_one_that_a_typist_may_have_meant() -> None:
    assert nearest("CLIP_SKP", ["clip_skip", "base"]) == "clip_skip"
    assert nearest("clip_skp", iter(["base", "clip_skip"])) == "clip_skip"
    assert nearest("xyz", ["clip_skip", "base"]) is None
    # Six letters of ten are the least that is taken for a slip.
    assert nearest("abcxy", ["abcde"]) == "abcde" and nearest("abxyz", ["abcde"]) is None
