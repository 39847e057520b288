"""Dataset: the folder of photographs, what is in it, which of them are left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from ti_tui import settings
from ti_tui.screens.wizard.pane import DraftChanged, FormPane, NextStep
from ti_tui.setup.draft import Draft
from ti_tui.setup.fields import PHOTOGRAPHS
from ti_tui.setup.findings import SOFT, Findings, Seen
from ti_tui.setup.words import location, number, printable
from ti_tui.widgets.canvas import cut
from ti_tui.widgets.field_row import FieldRow
from ti_tui.widgets.picture import Picture

TALL = 30
RESOLUTION = 512
"""The run file's default; asking its table would load what the first screen must not wait for."""
ADVICE = (
    "5 to 30 sharp pictures of one subject. Let background, light and pose differ: what stays the same in all of "
    "them is what the word learns."
)


class DatasetPane(FormPane):
    """The pictures with size, sharpness and what is wrong; space leaves one out."""

    step = "dataset"
    WORDS = (
        f"The folder with the photographs. {ADVICE}\n\nThe folder is only read: what is trained are copies in the run "
        "folder, turned upright, cropped and resized. Pictures that are left out stay where they are."
    )
    BINDINGS = [
        Binding("space", "leave_out", "Leave out", id="dataset.leave-out"),
    ]

    def __init__(self, draft: Draft) -> None:
        super().__init__(draft)
        self._seen: list[Seen] = []
        self._looking = False
        self._recent: list[Path] = []
        self._entered = ""

    def compose(self) -> ComposeResult:
        yield FieldRow(PHOTOGRAPHS, self.draft.photographs, placeholder="~/photos/anna")
        yield OptionList(id="recent")
        yield Static(ADVICE, id="advice", classes="hint", markup=False)
        yield Static("", id="count", markup=False)
        with Horizontal(id="set"):
            yield OptionList(id="pictures")
            yield Picture(id="preview", images=self.ti_tui.images, cache=self.ti_tui.pictures)

    def on_mount(self) -> None:
        self._recent = settings.recent_folders()[:6]
        recent = self.query_one("#recent", OptionList)
        recent.add_options([Content(printable(location(folder))) for folder in self._recent])
        self.query_one("#set").display = False
        self._show_recent()

    def enter(self) -> None:
        if self._usable and not self._needs_folder:
            self.query_one("#pictures").focus()
        else:
            self.rows()[0].entry.focus()

    def show(self, findings: Findings) -> None:
        super().show(findings)
        self._show_recent()
        self._count()

    def explanation(self) -> str:
        pictures = self.query_one("#pictures", OptionList)
        if pictures.has_focus:
            keys = "space leaves a picture out or takes it back; enter goes on. Nothing in the folder is changed."
            at = pictures.highlighted
            remark = self._remark(self._seen[at]) if at is not None and at < len(self._seen) else ""
            return f"{printable(self._seen[at or 0].name)}: {printable(remark)}. {keys}" if remark else keys
        if self.query_one("#recent").has_focus:
            return "enter takes one of the folders that you used before."
        return f"{PHOTOGRAPHS.help} right completes, ctrl+o picks."

    def fill(self, seen: Sequence[Seen], *, looking: bool) -> None:
        """Show these pictures, in place of those that are shown; looking: more may come."""
        self._seen = list(seen)
        self._looking = looking
        pictures = self.query_one("#pictures", OptionList)
        pictures.set_options([Option(self._prompt(one)) for one in seen])
        pictures.highlighted = 0 if seen else None
        if not seen:
            self.query_one("#preview", Picture).show(None)
        self.query_one("#set").display = bool(seen)
        self._count()

    def add(self, seen: Seen) -> None:
        """One more picture was looked at."""
        self._seen.append(seen)
        pictures = self.query_one("#pictures", OptionList)
        self.query_one("#set").display = True
        pictures.add_option(Option(self._prompt(seen)))
        if len(self._seen) == 1:
            pictures.highlighted = 0
        self._count()

    def looked(self) -> None:
        """The folder was looked at to its end."""
        self._looking = False
        self._count()
        # Only as the answer to an enter for this very folder: the cursor never moves by itself.
        if self._usable and self._entered and self._entered == self.draft.photographs:
            self._entered = ""
            self.query_one("#pictures").focus()

    def after_last(self) -> None:
        self._entered = self.draft.photographs
        if self._usable and not self._looking:
            self._entered = ""
            self.query_one("#pictures").focus()
        elif self._recent and not self.draft.photographs:
            self.query_one("#recent").focus()

    def action_leave_out(self) -> None:
        pictures = self.query_one("#pictures", OptionList)
        at = pictures.highlighted
        if not pictures.has_focus or at is None:
            return
        seen = self._seen[at]
        if seen.picture is not None:
            self.draft.leave_out(seen.name)
            pictures.replace_option_prompt_at_index(at, self._prompt(seen))
        if at + 1 < len(self._seen):
            pictures.highlighted = at + 1
        self._count()
        self.post_message(DraftChanged())

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        if event.option_list.id == "pictures" and event.option_index < len(self._seen):
            seen = self._seen[event.option_index]
            self.query_one("#preview", Picture).show(seen.path, self._remark(seen) or printable(seen.name))
            self.screen.explain()  # type: ignore[attr-defined]

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if event.option_list.id == "pictures":
            self.post_message(NextStep())
        else:
            self.take_folder(self._recent[event.option_index])

    def take_folder(self, folder: Path) -> None:
        """Use `folder`, as if it had been typed."""
        row = self.rows()[0]
        row.control.show_text(location(folder))
        row.add_class("-visited")
        row.entry.focus()
        self.take("photographs", location(folder))

    @property
    def _usable(self) -> bool:
        return any(seen.picture is not None for seen in self._seen)

    @property
    def _needs_folder(self) -> bool:
        return not self.draft.photographs

    def _show_recent(self) -> None:
        self.query_one("#recent").display = bool(self._recent) and not self.draft.photographs

    def _count(self) -> None:
        usable = [seen for seen in self._seen if seen.picture is not None]
        left_out = sum(seen.name in self.draft.choices()[0] for seen in usable)
        parts = []
        if self._seen or self._looking:
            parts.append(number(len(usable) - left_out, "picture") + " to train")
        if left_out:
            parts.append(f"{left_out} left out")
        if bad := len(self._seen) - len(usable):
            parts.append(f"{bad} cannot be used")
        if self._looking and self.draft.photographs:
            parts.append("looking ...")
        self.query_one("#count", Static).update(", ".join(parts) if self.draft.photographs else "")
        # On a small screen the pictures need the room.
        self.query_one("#advice").display = not self._seen or self.screen.size.height >= TALL

    def _prompt(self, seen: Seen) -> Content:
        name = cut(printable(seen.name), 16)
        if seen.picture is None:
            return Content.assemble(("✗ ", "$error"), Content(name), (f" {printable(seen.wrong)}", "$error"))
        out = seen.name in self.draft.choices()[0]
        size = f"{seen.picture.width}x{seen.picture.height}"
        if out:
            return Content.assemble(("× ", "$warning"), (f"{name} {size:>9} left out", "$muted"))
        remark = self._remark(seen)
        mark = ("! ", "$warning") if remark else ("✓ ", "$success")
        said = remark or ("sharp" if seen.sharpness is not None and seen.sharpness >= SOFT else "")
        return Content.assemble(
            mark, Content(name), (f" {size:>9} ", "$muted"), (said, "$warning" if remark else "$muted")
        )

    def _remark(self, seen: Seen) -> str:
        """What is odd about a picture: what was found, or that it has to be enlarged much."""
        if seen.remark or seen.picture is None:
            return seen.remark
        side = int(self.draft.fields.get("dataset.resolution", RESOLUTION))
        times = side / min(seen.picture.width, seen.picture.height)
        return f"enlarged {times:.2g} x" if times > 1 else ""
