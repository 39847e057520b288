"""HTML from nested calls: content is escaped unless it is markup already. Nothing else writes tags."""

from __future__ import annotations

import html
from collections.abc import Collection, Iterable, Sequence

from ti_tui.formatting import printable

VOID = frozenset({"br", "col", "hr", "img", "meta"})


class Html(str):
    """Text that is markup already; any other text is escaped."""

    __slots__ = ()


def escaped(content: object) -> Html:
    """`content` as text of a page. Invisible characters are escaped: they could reverse a line."""
    if isinstance(content, Html):
        return content
    lines = [printable(line) for line in str(content).splitlines()]
    return Html(html.escape("\n".join(lines)))


def join(parts: Iterable[object], between: str = "") -> Html:
    """The parts (a list or generator) joined, without those that are None or empty."""
    kept = [escaped(part) for part in parts if part is not None and part != ""]
    return Html(escaped(between).join(kept))


def tag(name: str, /, *content: object, **attributes: object) -> Html:
    """An element. In attribute names a trailing `_` is removed, others become `-`; False and None omit the attribute.

    Content that is None is skipped; a list is inserted item by item.
    """
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escaped(_number(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in VOID:
        return Html(f"<{name}{written}>")
    parts = [join(part) if isinstance(part, list | tuple) else part for part in content]
    return Html(f"<{name}{written}>{join(parts)}</{name}>")


def table(
    heads: Sequence[object], rows: Iterable[Sequence[object]], *, numbers: Collection[int] = (), **attributes: object
) -> Html:
    """A table whose first column names the rows. numbers: columns that are aligned right."""

    def cell(name: str, place: int, content: object, **more: object) -> Html:
        return tag(name, content, class_="number" if place in numbers else None, **more)

    head = tag("tr", [cell("th", place, one, scope="col") for place, one in enumerate(heads)])
    body = [
        tag(
            "tr",
            [
                cell("th", place, one, scope="row") if place == 0 else cell("td", place, one)
                for place, one in enumerate(row)
            ],
        )
        for row in rows
    ]
    made = tag("table", tag("thead", head), tag("tbody", body), **attributes)
    # On a phone a wide table scrolls sideways, not the page; it takes the focus, so that the keyboard can scroll it.
    return tag("div", made, class_="wide", tabindex="0", role="group", aria_label="table")


def _number(value: object) -> object:
    """Coordinates with only as many digits as are visible."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
