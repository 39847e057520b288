"""The dialog for generating captions: for which images, from what, and how existing captions are treated."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from textual.app import ComposeResult

from ti_tui.dataset.caption_text import CaptionMode, CaptionRules
from ti_tui.formatting import number, printable
from ti_tui.screens.dialogs import FormDialog, labelled
from ti_tui.screens.review.dialogs import Scopes
from ti_tui.widgets.canvas import Canvas, Line, cut
from ti_tui.widgets.controls import ChoiceRow, EditingFinished, TextLine

MODES: dict[str, CaptionMode] = {
    "only missing": "missing",
    "replace": "replace",
    "prepend": "prepend",
    "append": "append",
}
CAPTIONER, NAMES = "captioner", "file names"


@dataclass(frozen=True)
class CaptionRequest:
    """The images to caption, by name, and how. by_names: from their file names, without a captioner."""

    names: tuple[str, ...]
    rules: CaptionRules
    by_names: bool = False


class CaptionRequestDialog(FormDialog[CaptionRequest | None]):
    """Chooses which captions to make, and shows the outcome; the defaults make those that are missing.

    rules:         the initial prefix and first words.
    reviewed:      names of the images whose caption was reviewed.
    words_of_name: the caption that an image's file name gives.
    """

    def __init__(
        self,
        scopes: Scopes,
        rules: CaptionRules,
        *,
        reviewed: Collection[str],
        words_of_name: Callable[[str], str],
    ) -> None:
        super().__init__("Make captions", keys="enter start   tab next   right choose   esc back")
        self._scopes, self._rules, self._reviewed, self._words_of_name = scopes, rules, reviewed, words_of_name

    def body(self) -> ComposeResult:
        prefix, first_words = self._rules.prefix, self._rules.first_words
        yield labelled("Images", ChoiceRow(tuple(self._scopes), next(iter(self._scopes)), id="scope"))
        yield labelled("Mode", ChoiceRow(tuple(MODES), next(iter(MODES)), id="mode"))
        yield labelled("From", ChoiceRow((CAPTIONER, NAMES), CAPTIONER, id="source"))
        yield labelled("Prefix", TextLine(prefix, placeholder="put before each new caption", id="prefix"))
        continued = "a photo of: the captioner continues it"
        yield labelled("First words", TextLine(first_words, placeholder=continued, id="first"))
        yield Canvas(id="outcome")

    def on_editing_finished(self, message: EditingFinished) -> None:
        message.stop()
        request = self._request()
        if request.names:
            self.dismiss(request)

    @property
    def _captions(self) -> Mapping[str, str]:
        return self._scopes[self.query_one("#scope", ChoiceRow).text]

    def _request(self) -> CaptionRequest:
        by_names = self.query_one("#source", ChoiceRow).text == NAMES
        mode = MODES[self.query_one("#mode", ChoiceRow).text]
        rules = CaptionRules(
            mode, self.query_one("#prefix", TextLine).value, self.query_one("#first", TextLine).value.strip()
        )
        names = (name for name, caption in self._captions.items() if rules.wants(caption))
        if by_names:
            names = (name for name in names if self._words_of_name(name))
        return CaptionRequest(tuple(names), rules, by_names)

    def show_outcome(self) -> None:
        request, captions = self._request(), self._captions
        canvas = self.query_one("#outcome", Canvas)
        count, kept = number(len(request.names), "image"), len(captions) - len(request.names)
        had = [name for name in request.names if captions[name]]
        lines: list[Line] = [[(f"{count} will be captioned", "b"), (f", {kept} not changed" * bool(kept), "")]]
        if had:
            reviewed = sum(name in self._reviewed for name in had)
            changed = f"{number(len(had), 'caption')} {'is' if len(had) == 1 else 'are'} replaced"
            lines.append([(f"! {changed}, {reviewed} of them reviewed; U undoes this", "warning")])
        elif request.by_names and request.names:
            made = request.rules.combined("", self._words_of_name(request.names[0]))
            lines.append([("+ ", "accent"), (cut(printable(made), max(10, canvas.size.width - 2)), "")])
        canvas.draw([*lines, []][:2])
