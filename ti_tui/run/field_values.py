"""Describes the accepted values of a run file's fields, for comments, problems, the form and the docs."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable
from typing import Any, Literal

from annotated_types import Ge, Gt, Le, Lt, MultipleOf
from pydantic.fields import FieldInfo


def accepted_values(info: FieldInfo) -> str:
    """The accepted values of a field in words, such as "a whole number from 1 to 75"."""
    return " or ".join(_accepts(info.annotation, info.metadata))


def choices_of(info: FieldInfo) -> list[str]:
    """The words that a field accepts; empty if it accepts none."""

    def of(annotation: Any) -> list[str]:
        if typing.get_origin(annotation) is Literal:
            return [value for value in typing.get_args(annotation) if isinstance(value, str)]
        return [choice for part in typing.get_args(annotation) for choice in of(part)]

    return of(info.annotation)


def _accepts(annotation: Any, metadata: Iterable[Any]) -> list[str]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        inner, *more = typing.get_args(annotation)
        rules = [rule for item in more for rule in (item.metadata if isinstance(item, FieldInfo) else [item])]
        return _accepts(inner, rules)
    if origin is Literal:
        values = [
            str(value).lower() if isinstance(value, bool) else str(value) for value in typing.get_args(annotation)
        ]
        return [values[0] if len(values) == 1 else f"one of {', '.join(values)}"]
    if origin in (types.UnionType, typing.Union):
        return [text for part in typing.get_args(annotation) for text in _accepts(part, metadata)]
    if origin is list:
        return ["a list of " + " or ".join(_accepts(typing.get_args(annotation)[0], ())).removeprefix("one of ")]
    if annotation is bool:
        return ["true or false"]
    if annotation in (int, float):
        return [("a whole number" if annotation is int else "a number") + _bounds(metadata)]
    if annotation is str:
        patterns = [getattr(rule, "pattern", None) for rule in metadata]
        if any(pattern and "cuda" in pattern for pattern in patterns):
            return ["auto, cpu, cuda or cuda:N"]
        return ["text in quotes"]
    if origin is dict:
        return ["a table in braces, such as { betas = [0.9, 0.99] }"]
    if "until" in getattr(annotation, "model_fields", {}):
        return ["an earlier scheme { until = 120, segments = [...] }"]
    return ["a segment { learning_rate = 0.005, steps = 200 }"]


def _bounds(metadata: Iterable[Any]) -> str:
    low = high = above = below = multiple = None
    for rule in metadata:
        match rule:
            case Ge():
                low = rule.ge
            case Gt():
                above = rule.gt
            case Le():
                high = rule.le
            case Lt():
                below = rule.lt
            case MultipleOf():
                multiple = rule.multiple_of
    text = ""
    if low is not None and high is not None:
        text = f" from {low} to {high}"
    elif low is not None:
        text = f" of at least {low}"
    elif above is not None:
        text = f" above {above}"
    elif high is not None:
        text = f" of at most {high}"
    elif below is not None:
        text = f" below {below}"
    return f"{text}, a multiple of {multiple}" if multiple is not None else text
