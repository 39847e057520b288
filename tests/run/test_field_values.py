"""What a field of the run file takes, in words."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, create_model
from pydantic.fields import FieldInfo

from ti_tui.run.field_values import accepted_values, choices_of
from ti_tui.run.recipe import TABLES


def field_of(annotation: Any, **rules: Any) -> FieldInfo:
    return create_model("Made", field=(annotation, Field(None, **rules))).model_fields["field"]


@pytest.mark.parametrize(
    ("annotation", "rules", "words"),
    [
        (int, {}, "a whole number"),
        (float, {}, "a number"),
        (bool, {}, "true or false"),
        (str, {}, "text in quotes"),
        (str, {"pattern": "x"}, "text in quotes"),
        (str, {"pattern": "auto|cuda:1"}, "auto, cpu, cuda or cuda:N"),
        (int, {"ge": 1, "le": 75}, "a whole number from 1 to 75"),
        (float, {"ge": 0}, "a number of at least 0"),
        (float, {"gt": 0}, "a number above 0"),
        (float, {"gt": 0, "le": 2}, "a number above 0"),
        (float, {"le": 2}, "a number of at most 2"),
        (float, {"lt": 2}, "a number below 2"),
        (int, {"ge": 16, "le": 64, "multiple_of": 8}, "a whole number from 16 to 64, a multiple of 8"),
        (Literal["a", "b"], {}, "one of a, b"),
        (Literal["a"], {}, "a"),
        (Literal["a", True], {}, "one of a, true"),
        (Literal["auto"] | Annotated[int, Field(ge=1)], {}, "auto or a whole number of at least 1"),
        (list[Literal["a", "b"]], {}, "a list of a, b"),
        (list[int], {}, "a list of a whole number"),
        (list[int | str], {}, "a list of a whole number or text in quotes"),
        (dict[str, int], {}, "a table in braces, such as { betas = [0.9, 0.99] }"),
    ],
)
def test_what_a_field_takes(annotation: Any, rules: dict[str, Any], words: str) -> None:
    assert accepted_values(field_of(annotation, **rules)) == words


def test_segments_are_shown_by_an_example() -> None:
    words = accepted_values(TABLES["scheme"].model_fields["segments"])
    assert "a list of a segment { learning_rate = 0.005, steps = 200 }" in words


@pytest.mark.parametrize(
    ("annotation", "choices"),
    [
        (Literal["a", "b"], ["a", "b"]),
        (Literal["auto"] | int, ["auto"]),
        (list[Literal["a", "b"]], ["a", "b"]),
        (Literal["a", 1], ["a"]),
        (int, []),
        (dict[str, Literal["x"]], ["x"]),
    ],
)
def test_the_choices_of_a_field(annotation: Any, choices: list[str]) -> None:
    assert choices_of(field_of(annotation)) == choices
