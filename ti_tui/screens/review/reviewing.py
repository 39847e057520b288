"""The caption review without changes to many captions at once: image, list, filter and editor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Rule, TextArea

from ti_tui.captions.desk import CaptionDesk
from ti_tui.captions.filter import Facts, FilterError, parse_filter
from ti_tui.captions.prompt import PromptReader, PromptReading, Remark, reader_for, remarks
from ti_tui.dataset.caption_files import one_line
from ti_tui.screens.base import fit_key_line
from ti_tui.screens.review import lines
from ti_tui.screens.review.base import ReviewBase
from ti_tui.screens.review.captioning import CaptioningScreen
from ti_tui.screens.review.editor import CaptionEditor
from ti_tui.screens.review.listing import CaptionList, CaptionRows, Row, labels
from ti_tui.widgets.canvas import Canvas
from ti_tui.widgets.controls import Edited, EditingFinished, TextLine
from ti_tui.widgets.key_line import KeyLine
from ti_tui.widgets.picture import PictureView

if TYPE_CHECKING:
    from ti_tui.setup.check import Checked

FILTER_WORDS = "words, is:empty|reviewed|auto|changed|out, tokens:>60, name:beach; - negates"


class ReaderReady(Message):
    """The tokenizer is loaded, so prompts can be counted."""

    def __init__(self, reader: PromptReader) -> None:
        super().__init__()
        self.reader = reader


class ReviewScreen(ReviewBase, CaptioningScreen):
    """Shows the captions on a desk, starting with the image `at`. checked: what is known about the model."""

    CSS_PATH = "captions.tcss"
    AUTO_FOCUS = ""
    help_text = lines.HELP
    help_terms = ("caption", "caption file", "template", "token")
    BINDINGS = [
        Binding("pagedown", "move(1)", "Next image", show=False, id="captions.next"),
        Binding("ctrl+down", "move(1)", "Next image", show=False, id="captions.next-typing"),
        Binding("pageup,ctrl+up", "move(-1)", "Previous image", show=False, id="captions.previous"),
        Binding("ctrl+g", "next_without", "Empty", show=False, id="captions.empty-typing"),
        Binding("ctrl+r", "replace", "Replace", show=False, id="captions.replace-typing"),
        Binding("ctrl+t", "phrases", "Phrases", show=False, id="captions.phrases",
                tooltip="Saved phrases: add one, edit them"),
        Binding("tab,shift+tab", "other", "List or editor", show=False, id="captions.other"),
        Binding("escape", "back", "Back", key_display="esc", id="captions.back"),
        Binding("q", "back", "Back", show=False),
    ]  # fmt: skip

    def __init__(self, desk: CaptionDesk, *, at: str = "", checked: Checked | None = None) -> None:
        super().__init__()
        self.desk = desk
        self.current = at if at in desk.names else desk.names[0]
        self._checked = checked
        self.shown = list(desk.names)
        self.filter = ""
        self._misread = False
        self.reader: PromptReader | None = None
        self.remarks: list[Remark] = []
        self._remarked: tuple[dict[str, str], str, str, bool] | None = None
        self._read: tuple[PromptReader, str, PromptReading] | None = None
        self._labels: dict[str, str] = {}
        self._warned = False

    def compose(self) -> ComposeResult:
        yield Canvas(id="head")
        yield Rule(line_style="heavy", classes="rule")
        with Horizontal(id="body"):
            yield PictureView(id="picture")
            with Vertical(id="side"):
                yield TextLine(id="filter", placeholder="/  filter: words, is:empty, tokens:>60")
                yield CaptionList(id="captions")
        yield Rule(line_style="solid", classes="rule")
        yield CaptionEditor(id="caption")
        yield Canvas(id="reads")
        yield Canvas(id="remark")
        yield Rule(line_style="solid", classes="rule")
        yield KeyLine()

    def on_mount(self) -> None:
        self.query_one("#filter").can_focus = False
        self._load_reader()
        self.show_image()
        self.editor.show(self.desk.caption(self.current))
        self.editor.focus()

    def on_resize(self) -> None:
        narrow = fit_key_line(self)
        self._labels = labels(self.desk.names, 14 if narrow else 20)
        self.call_after_refresh(self._show_all)

    # The current image

    @property
    def editor(self) -> CaptionEditor:
        return self.query_one(CaptionEditor)

    @property
    def listing(self) -> CaptionList:
        return self.query_one(CaptionList)

    @property
    def token(self) -> str:
        """The token; "" before one is chosen."""
        return str(self.desk.draft.value("embedding.token") or "")

    def index(self) -> int | None:
        """The position of the current image in the list; None if the filter hides it."""
        return self.shown.index(self.current) if self.current in self.shown else None

    def action_move(self, by: int) -> None:
        if not self.shown:
            return
        at = self.index()
        # If the filter hides the current image, go to the first that it shows.
        to = 0 if at is None else min(max(at + by, 0), len(self.shown) - 1)
        self._go(self.shown[to])

    def action_next_without(self) -> None:
        self.take()
        name = self.desk.next_without(self.current)
        if name is None:
            self.say("Every image has a caption.")
            return
        if name not in self.shown:
            self.set_filter("")
        self._go(name)

    def action_accept(self) -> None:
        self.take()
        self.desk.finish(reviewed=self.current)
        self.warn()
        at = self.index()
        # If the filter hides the current image, go to the first that it shows.
        later = self.shown if at is None else self.shown[at + 1 :]
        after = [name for name in later if not self.desk.is_out(name)]
        if after:
            self._go(after[0])
        else:
            self._show_all()
            self.say(self._at_the_end())

    def on_caption_rows_clicked(self, message: CaptionRows.Clicked) -> None:
        message.stop()
        self._go(message.name)

    def on_text_area_changed(self, message: TextArea.Changed) -> None:
        message.stop()
        if self.take():
            self.say("")
            self.show_progress()
            self._show_reads()

    def action_type(self) -> None:
        self.editor.focus()

    def action_other(self) -> None:
        (self.listing if self.editor.has_focus else self.editor).focus()

    def action_back(self) -> None:
        if self.query_one("#filter").has_focus or self.editor.has_focus:
            if self.query_one("#filter").has_focus:
                self.set_filter("")
            self.listing.focus()
        elif self.progress is not None:
            self.cancel_captioning()
        elif self.filter:
            self.set_filter("")
        else:
            self.keep()
            self.dismiss(self.current)

    def action_reviewed(self) -> None:
        self.take()
        before = self.desk.mark(self.current)
        self.desk.toggle_reviewed(self.current)
        if before == "none":
            self.say("It has no caption yet: press enter to type one.")
        elif before != "reviewed":
            self.action_move(1)
        self._show_all()

    def action_leave_out(self) -> None:
        self.desk.leave_out(self.current)
        self._show_all()

    def action_zoom(self) -> None:
        self.toggle_class("-zoomed")
        self.call_after_refresh(self._show_all)

    def _go(self, name: str) -> None:
        """Make `name` the current image; edits of the previous caption become a change of their own."""
        self.take()
        if name != self.current:
            self.desk.finish()
            self.warn()
            self.current = name
            self.editor.show(self.desk.caption(name))
            self.show_image()
            self.say("")
        self._show_all()

    def take(self) -> bool:
        """Put the text of the editor into the desk; it is saved within a second."""
        taken = self.desk.type(self.current, self.editor.text)
        if taken:
            self.save_soon()
        return taken

    def save_changes(self) -> None:
        self.desk.save()
        self._show_all()

    def keep(self) -> None:
        self.take()
        self.desk.finish()
        self.desk.save()

    # The filter

    def action_filter(self) -> None:
        line = self.query_one("#filter", TextLine)
        line.can_focus = True
        line.focus()

    def on_edited(self, message: Edited) -> None:
        message.stop()
        self.set_filter(message.text)

    def on_editing_finished(self, message: EditingFinished) -> None:
        message.stop()
        # A filter that cannot be parsed stays open, with the error shown.
        if not self._misread:
            self.listing.focus()
            if self.shown and self.index() is None:
                self._go(self.shown[0])

    def set_filter(self, text: str) -> None:
        """Show the images that match a filter. The list stays fixed until the filter is edited again."""
        self.filter = text
        line = self.query_one("#filter", TextLine)
        line.show_text(text)
        try:
            matches = parse_filter(text)
        except FilterError as error:
            self._misread = True
            self.say(f"{error.message}.")
            return
        self._misread = False
        self.shown = [name for name in self.desk.names if matches(self._facts(name))]
        self.say("" if self.shown else "No image matches; esc shows all.")
        self._show_all()

    def _facts(self, name: str) -> Facts:
        caption, reader = self.desk.in_prompt(name), self.reader
        tokens = (lambda: reader.count(caption)) if reader is not None else (lambda: 0)
        return Facts(name, self.desk.caption(name), self.desk.states(name), tokens)

    # What is shown

    def reload(self, message: str) -> None:
        """Show the captions after a change to several of them."""
        caption = self.desk.caption(self.current)
        # Keep the editor as it is if only spaces differ.
        if one_line(self.editor.text) != caption:
            self.editor.show(caption)
        self.warn()
        self._show_all()
        self.say(message)

    def show_image(self) -> None:
        self.query_one("#picture", PictureView).show(self.desk.path(self.current))

    def _show_all(self) -> None:
        rows = [
            Row(name, self.desk.mark(name), self._labels.get(name, name), self.desk.caption(name))
            for name in self.shown
        ]
        self.listing.show(rows, self.index())
        self._remark()
        self.show_progress()
        self._show_reads()
        self.show_message()

    def _remark(self) -> None:
        """Make the remarks again if a caption has changed."""
        uses = self.reader is None or self.reader.uses_captions
        class_word = str(self.desk.draft.value("embedding.init") or "")
        about = (self.desk.trained(), self.token, class_word, uses)
        if about != self._remarked:
            self._remarked = about
            self.remarks = remarks(*about[:3], uses_captions=uses)

    def _reading(self) -> PromptReading | None:
        """How the model reads the prompt with the current caption."""
        caption = self.desk.in_prompt(self.current)
        if self.reader is not None and (self._read is None or self._read[:2] != (self.reader, caption)):
            self._read = (self.reader, caption, self.reader.read(caption))
        return self._read[2] if self._read is not None else None

    def show_progress(self) -> None:
        at = self.desk.names.index(self.current) + 1
        counts = self.desk.counts()
        stops = "esc stops" if self.listing.has_focus else "esc esc stops"
        line = lines.head(self.size.width, at, len(self.desk.names), counts, self._reading(), self.progress, stops)
        self.query_one("#head", Canvas).draw([line])

    def _show_reads(self) -> None:
        canvas, reading = self.query_one("#reads", Canvas), self._reading()
        if reading is not None and canvas.size.width:
            canvas.draw(lines.reads(reading, self.token or "name", canvas.size.width, canvas.size.height))

    def show_message(self) -> None:
        """Show the present message, else the remarks about the captions."""
        canvas = self.query_one("#remark", Canvas)
        message = self.message_text or (FILTER_WORDS if self.query_one("#filter").has_focus else "")
        listing = self.listing.has_focus
        note = self.desk.note(self.current)
        canvas.draw(lines.remark(message, note, self.remarks, canvas.size.width, canvas.size.height, listing=listing))

    def on_descendant_focus(self) -> None:
        self.query_one("#filter").can_focus = self.query_one("#filter").has_focus
        self.show_progress()
        self.show_message()

    def warn(self) -> None:
        """Warn once if the history cannot be saved."""
        if self.desk.history_error and not self._warned:
            self._warned = True
            self.notify(
                f"Changes cannot be undone after a restart: {self.desk.history_error}", severity="warning", markup=False
            )

    @work(thread=True, group="reader", exit_on_error=False)
    def _load_reader(self) -> None:
        self.post_message(ReaderReady(reader_for(self.desk.draft, self._checked)))

    def on_reader_ready(self, message: ReaderReady) -> None:
        message.stop()
        self.reader = message.reader
        self._show_all()

    def _at_the_end(self) -> str:
        counts = self.desk.counts()
        if counts.without:
            return f"That was the last. {counts.without} without a caption: ctrl+g goes to the next."
        if counts.reviewed < counts.trained:
            return f"That was the last. {counts.trained - counts.reviewed} not reviewed yet: esc, then / -is:reviewed."
        return f"All {counts.trained} are reviewed. esc esc goes back to the wizard."
