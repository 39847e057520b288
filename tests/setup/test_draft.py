"""The draft: what becomes of what is typed."""

from __future__ import annotations

import pytest

from ti_tui.setup.draft import Draft


@pytest.mark.parametrize("typed", ['"~/a b/x"', "'~/a b/x'", "  ~/a b/x ", '"~/a b/x" '])
@pytest.mark.parametrize("field", ["photographs", "run_folder", "model.base", "model.vae", "save.install_to"])
def test_quotes_around_a_path_are_taken_off(field: str, typed: str) -> None:
    draft = Draft()
    draft.set(field, typed)
    assert draft.text(field) == "~/a b/x"


@pytest.mark.parametrize("typed", ['"', "it's", "'a\"", '~/"x"/y'])
def test_other_quotes_are_part_of_the_path(typed: str) -> None:
    draft = Draft()
    draft.set("photographs", typed)
    assert draft.photographs == typed


def test_words_in_quotes_stay_words() -> None:
    draft = Draft()
    draft.set("class_word", '"red" mug')
    assert draft.class_word == '"red" mug'
