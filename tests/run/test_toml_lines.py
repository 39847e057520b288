"""The line of each key in a TOML text."""

from __future__ import annotations

import tomllib

import pytest

from ti_tui.run.toml_lines import key_lines

TEXT = '''\
format = 1
# [comment]
# key = 1

[model]
base = "m"  # a = 1
 "quoted key" = 1
[ dataset . 'part' ]
images = [
  1, # ]
  [2], { inner = 3 },
]
after.dotted . "x" = { y = 1 }
[[list]]
name = 1
[[list]]
name = 2
[scheme]
text = """
[not.a.table]
no = 1 \\"""
""" # closed
single = 'a # [ " '
literal = \'\'\'
\\\'\'\'
escaped = "a \\" [ "
deep = [ "]", ']', """]""", [
  [ ] ]
]
last = 1
'''


def test_every_table_and_key_has_its_line() -> None:
    tomllib.loads(TEXT)
    assert key_lines(TEXT) == {
        "format": 1,
        "model": 5,
        "model.base": 6,
        "model.quoted key": 7,
        "dataset.part": 8,
        "dataset.part.images": 9,
        "dataset.part.after.dotted.x": 13,
        "list": 14,
        "list.name": 17,
        "scheme": 18,
        "scheme.text": 19,
        "scheme.single": 23,
        "scheme.literal": 24,
        "scheme.escaped": 26,
        "scheme.deep": 27,
        "scheme.last": 30,
    }


@pytest.mark.parametrize(
    "value",
    [
        '"a"', "'a'", '"[{"', "'[{'", r'"\\"', r'"\"["', "'\\'", '"""a"""', '"""\n[\n"""', "'''\n{ \\\n'''", '""', "''",
        "[]", "{}", "[\n]", "[[\n],\n[\n]]", "{ a = [ 1 ] }", '"#" # [', "[ # ]\n]", '"""a"b""c"""', '"""\\""" [ """',
        "[ '''\n]\n''' ]", '["a", "]"]', "[\n  '[',\n]", r'["\\", "["]', "1 # \" ' \"\"\" [ {",
    ],
)  # fmt: skip
def test_a_value_of_any_form_ends_where_toml_says(value: str) -> None:
    text = f"first = {value}\nsecond = 2\n[t]\nthird = 3\n"
    tomllib.loads(text)
    lines = value.count("\n") + 1
    assert key_lines(text) == {"first": 1, "second": lines + 1, "t": lines + 2, "t.third": lines + 3}
