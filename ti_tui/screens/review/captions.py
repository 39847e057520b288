"""The caption review: each image with its caption, to type, find, replace, generate and undo with the keyboard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ti_tui.captions.desk import BY_NAME, PHRASE, REPLACED, CaptionDesk, Undone
from ti_tui.captions.phrases import load_phrases, save_phrases, with_phrase
from ti_tui.captions.prompt import patterns_of
from ti_tui.dataset import caption_history
from ti_tui.dataset.caption_edits import framed
from ti_tui.dataset.caption_files import one_line
from ti_tui.dataset.caption_text import CaptionRules, words_of_name
from ti_tui.errors import UserError
from ti_tui.formatting import number
from ti_tui.screens.dialogs import Answer, PathPicker, TextDialog, ask, start_of
from ti_tui.screens.review.caption_request import CaptionRequest, CaptionRequestDialog
from ti_tui.screens.review.dialogs import IGNORE, WHOLE, FrameDialog, PhrasesDialog, ReplaceDialog, Scopes
from ti_tui.screens.review.lines import named
from ti_tui.screens.review.reviewing import ReviewScreen

if TYPE_CHECKING:
    from ti_tui.setup.check import Checked

WITHOUT_CAPTIONS = "Captions are optional: the templates object and style make prompts without them."


class CaptionReview(ReviewScreen):
    """Adds to the review what changes several captions at once: replacing, phrases, undo and the captioner."""

    def __init__(self, desk: CaptionDesk, *, at: str = "", checked: Checked | None = None) -> None:
        super().__init__(desk, at=at, checked=checked)
        self._phrases = list(load_phrases())
        self._batch = ""
        self._rules = CaptionRules()
        self._request = CaptionRequest((), self._rules)
        self._captions_before: dict[str, str] = {}
        self._begin_at: Path | None = None

    def on_mount(self) -> None:
        if earlier := self.desk.earlier():
            self.say(f"The previous draft had {number(len(earlier), 'more caption')}: esc, then l takes them over.")

    # Changing many

    def action_replace(self, word: str = "") -> None:
        self.take()
        scopes = self._scopes({name: self.desk.caption(name) for name in self.desk.names})
        options = f"{WHOLE}, {IGNORE}" if word else ""

        def replaced(changed: dict[str, str] | None) -> None:
            if changed:
                count = self.desk.change(changed, REPLACED)
                self.reload(f"Replaced in {number(count, 'caption')}. U undoes it.")

        self.app.push_screen(ReplaceDialog(scopes, word, options), replaced)

    def _scopes(self, captions: Mapping[str, str]) -> Scopes:
        """The scopes of a change: those of `captions` that the filter shows, all, the current one."""
        scopes: dict[str, Mapping[str, str]] = {}
        if self.filter:
            shown = {name: captions[name] for name in self.shown if name in captions}
            scopes[f"the {len(shown)} shown"] = shown
        scopes[f"all {len(captions)}"] = captions
        scopes["this one"] = {self.current: self.desk.caption(self.current)}
        return scopes

    def action_frame(self) -> None:
        def reads(prefix: str, suffix: str) -> str:
            caption = framed(self.desk.caption(self.current), prefix, suffix)
            if self.reader is None:
                return caption
            reading = self.reader.read(caption)
            return named(reading.prompt, self.token or "name", reading.each)

        def taken(frame: tuple[str, str] | None) -> None:
            if frame is not None:
                self.desk.set_frame(*frame)
                self.reload("")

        self.app.push_screen(FrameDialog(*self.desk.frame, reads), taken)

    def action_phrases(self) -> None:
        typing = self.editor.has_focus

        def chosen(at: int | None) -> None:
            if at is None:
                return
            phrase, text = self._phrases[at], one_line(self.editor.text)
            if not typing:
                self.action_phrase(at + 1)
            elif with_phrase(text, phrase) == text:
                self.say(f"“{phrase}” is already in it.")
            else:
                self.editor.put(phrase)

        keep = lambda: save_phrases(self._phrases)  # noqa: E731
        self.app.push_screen(PhrasesDialog(self._phrases, keep, chosen=self.editor.selected_text), chosen)

    def action_phrase(self, digit: int) -> None:
        phrase = self._phrases[digit - 1]
        if not phrase:
            self.say(f"There is no phrase {digit}: ctrl+t opens the phrases.")
            return
        self.take()
        new = with_phrase(self.desk.caption(self.current), phrase)
        changed = self.desk.change({self.current: new}, PHRASE)
        self.reload("" if changed else f"“{phrase}” is already in it.")

    def action_fix(self) -> None:
        remark = next((remark for remark in self.remarks if remark.word or remark.template), None)
        if remark is None:
            self.say("There is nothing to fix.")
        elif remark.template:
            self.desk.draft.put("dataset.template", "captions")
            if self.reader is not None:
                self.reader = replace(self.reader, patterns=patterns_of(self.desk.draft))
            self.reload("The template is now “captions”: a photo of [name], [filewords].")
        else:
            self.action_replace(remark.word)

    def action_earlier(self) -> None:
        earlier = self.desk.earlier()
        if earlier:
            count = self.desk.change(earlier, "the previous draft")
            self.reload(f"{number(count, 'caption')} from the previous draft. U undoes it.")
        else:
            self.say("There are no other captions in an earlier draft.")

    def action_undo(self) -> None:
        self.take()
        self._undone(self.desk.undo(), "Undone", "There is nothing to undo.")

    def action_redo(self) -> None:
        self.take()
        self._undone(self.desk.redo(), "Redone", "There is nothing to redo.")

    def _undone(self, undone: Undone | None, verb: str, nothing: str) -> None:
        # Captions that arrive from here on are a separate change.
        self._batch = caption_history.new_batch()
        if undone is None:
            self.reload(nothing)
            return
        if undone.names and self.current not in undone.names:
            if undone.names[0] not in self.shown:
                self.set_filter("")
            self.current = undone.names[0]
            self.show_image()
        where = "" if len(undone.names) == 1 else f" in {number(len(undone.names), 'caption')}"
        self.reload(f"{verb}: {undone.how}{where}.")

    # The captioner

    def action_caption_one(self) -> None:
        if not self._is_free():
            return
        request = CaptionRequest((self.current,), replace(self._rules, mode="replace"))
        mark = self.desk.mark(self.current)
        if mark in {"none", "out"} or "auto" in self.desk.states(self.current):
            self._caption_these(request)
            return

        replaced = partial(self._caption_these, request)
        answers = [Answer("y", "replace it; U undoes it", replaced), Answer("n", "keep it")]
        ask(self.app, "Replace this caption?", self.desk.caption(self.current)[:300], answers)

    def action_caption_many(self) -> None:
        if not self._is_free():
            return

        def chosen(request: CaptionRequest | None) -> None:
            if request is not None:
                self._rules = request.rules
                self._caption_these(request)

        scopes = self._scopes(self.desk.trained())
        reviewed = [name for name in self.desk.names if self.desk.mark(name) in {"reviewed", "changed"}]
        self.app.push_screen(
            CaptionRequestDialog(scopes, self._rules, reviewed=reviewed, words_of_name=self._words_of_name), chosen
        )

    def _is_free(self) -> bool:
        """Whether no captioning is running; if it is, say so."""
        self.take()
        self.desk.finish()
        if self.progress is not None:
            self.say("The captioner is already running; esc stops it.")
        return self.progress is None

    def subject(self) -> str:
        word = self.desk.draft.class_word
        return f"the {word}" if word else ""

    def captioned(self, name: str, caption: str) -> None:
        self.take()
        old = self.desk.caption(name)
        # A caption that was edited meanwhile is not replaced.
        if old == self._captions_before.get(name):
            self.desk.change({name: self._request.rules.combined(old, caption)}, "captioner", batch=self._batch)
            self.reload("")

    def captioning_ended(self, captioned: int, *, stopped: bool = False) -> None:
        self._captions_before = {}
        if captioned:
            lead = "Stopped; " if stopped else ""
            them = "it" if captioned == 1 else "them"
            self.reload(f"{lead}{captioned} captioned, marked ● until you have reviewed {them}.")
        elif stopped:
            self.say("Stopped.")

    def captioner_missing(self, error: UserError) -> None:
        request = self._request
        example = self._words_of_name(request.names[0]) or "nothing"
        these = "its name" if len(request.names) == 1 else f"the names of all {len(request.names)}"
        by_names = partial(self._caption_these, replace(request, by_names=True))
        answers = [
            Answer("n", f"use the words of {these} instead: “{example[:40]}”", by_names),
            Answer("f", "choose the captioner's folder", self._choose_captioner),
            Answer("a", "give the address of one (ollama, llama.cpp, vLLM)", self._give_address),
            Answer("t", "type captions, with phrases on 1 to 9 (ctrl+t)", self.editor.focus),
        ]
        text = f"{error.message}.\n\n{error.remedy}\n\n{WITHOUT_CAPTIONS}".strip()
        ask(self.app, "No captioner", text, answers)

    def _caption_these(self, request: CaptionRequest) -> None:
        self._request = request
        captions = {name: self.desk.caption(name) for name in request.names}
        if request.by_names:
            made = {name: self._words_of_name(name) for name in request.names}
            count = self.desk.change(
                {name: request.rules.combined(captions[name], words) for name, words in made.items() if words}, BY_NAME
            )
            self.reload(f"{number(count, 'caption')} from file names. U undoes it.")
            return

        def begin() -> None:
            self._batch, self._captions_before = caption_history.new_batch(), captions
            self.begin_captioning({name: self.desk.path(name) for name in request.names}, request.rules.first_words)

        endpoint = self.endpoint()
        warning = endpoint.warning(len(request.names)) if endpoint is not None else ""
        if not warning:
            begin()
            return
        ask(self.app, "Send images?", warning, [Answer("n", "keep them here"), Answer("y", "send them", begin)])

    def _words_of_name(self, name: str) -> str:
        return words_of_name(self.desk.path(name).stem)

    def _choose_captioner(self) -> None:
        def picked(folder: Path | None) -> None:
            if folder is not None:
                self._begin_at = folder
                self.choose_captioner(str(folder))
                self._caption_these(self._request)

        self.app.push_screen(PathPicker("The captioner's folder", self._begin_at or start_of("~")), picked)

    def _give_address(self) -> None:
        def given(text: str | None) -> None:
            if text is not None and text.strip():
                self.choose_captioner(text.strip())
                self._caption_these(self._request)

        words = "An address that speaks OpenAI's chat form, and the name of a model there."
        self.app.push_screen(TextDialog("The captioner's address", words, "http://localhost:11434/v1 llava"), given)
