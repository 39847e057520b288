"""The dataset step: the photographs and the model; which photographs are left out, and the entry to the crop review."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from ti_tui import settings
from ti_tui.dataset.picture_choices import MASKS
from ti_tui.formatting import location, number, printable
from ti_tui.run.problems import Problem
from ti_tui.screens.wizard.dataset_lines import PhotographLines, choice_line, folder_lines, why_no_mask
from ti_tui.screens.wizard.draft_screen import DraftChanged
from ti_tui.screens.wizard.model_field import ModelField
from ti_tui.screens.wizard.pane import FormPane, NextStep
from ti_tui.setup.draft import Draft
from ti_tui.setup.fields import MODEL, PHOTOGRAPHS
from ti_tui.setup.findings import Findings
from ti_tui.setup.photographs import OF_PICTURES
from ti_tui.widgets.canvas import Canvas, Line
from ti_tui.widgets.controls import as_example
from ti_tui.widgets.field_row import FieldRow
from ti_tui.widgets.picture import PictureView

if TYPE_CHECKING:
    from ti_tui.dataset.photograph_checks import SurveyedFile
    from ti_tui.setup.crop_desk import CropDesk

TALL = 30
ADVICE = (
    "5 to 30 sharp photographs of one subject. Vary background, light and pose: the token learns what stays the "
    "same in all of them."
)
KEYS = (
    "space leaves a photograph out, k uses one that is refused, c shows the crops, m changes the masks; enter "
    "continues. Nothing in the folder is changed."
)


class DatasetPane(FormPane):
    """The photographs with their sizes and problems, and below them the problems of the folder as a whole."""

    step = "dataset"
    TERMS = ("photograph", "model", "family", "prediction type", "image", "crop", "mask", "held-out images")
    WORDS = (
        f"The folder with the photographs. {ADVICE}\n\nThe folder is only read: training uses copies in the run "
        "folder, turned upright, cropped and resized. Photographs that are left out are not touched.\n\n"
        "The model is the one that you make pictures with, or one of its family. Those found are listed: in folders "
        "of A1111, Forge, ComfyUI, SwarmUI and InvokeAI, in the hub's cache, in ~/models, and in model_folders of the "
        "settings.\n\n"
        "✓ good   ! see the remark beside it   × left out   ✗ cannot be used; if it is only too small or a copy of "
        "another, k uses it all the same\n\n"
        "◐ has a mask: white parts are learned, black parts hardly. The mask is a-mask.png beside a.jpg, or the "
        "photograph's transparency; with faces, photographs without one get a mask around the head. Masks are used if "
        "the parameter Masks is on; faces turns it on."
    )
    BINDINGS = [
        Binding("space", "leave_out", "Leave out", id="dataset.leave-out", tooltip="Leave out, or include again"),
        Binding("k", "force", "Use it", id="dataset.force", tooltip="Use a refused photograph, or stop using it"),
        Binding("c", "crops", "Crops", id="dataset.crops", tooltip="See and change the crops"),
        Binding("m", "masks", "Masks", id="dataset.masks", tooltip="Which photographs get a mask: none, found, faces"),
        Binding("s", "subfolders", "Sub-folders", show=False, id="dataset.subfolders",
                tooltip="Include sub-folders or not; with alt while typing"),
        # A text line takes alt+letter as a letter, so this binding has priority.
        Binding("alt+s", "subfolders", "Sub-folders", show=False, id="dataset.alt-subfolders", priority=True),
    ]  # fmt: skip

    def __init__(self, draft: Draft) -> None:
        super().__init__(draft)
        self._seen: list[SurveyedFile] = []
        self._desk: CropDesk | None = None
        self._checking = False
        self._masks_requested = False
        self._recent: list[Path] = []
        self._entered = ""

    def compose(self) -> ComposeResult:
        yield FieldRow(PHOTOGRAPHS, self.draft.photographs, placeholder=as_example("~/photos/anna"))
        yield OptionList(id="recent")
        yield ModelField(self.draft.text(MODEL.name))
        yield Static(ADVICE, id="advice", classes="hint", markup=False)
        yield Static("", id="count", markup=False)
        yield Canvas(id="choices")
        with Horizontal(id="set"):
            yield OptionList(id="pictures")
            with Vertical(id="chosen"):
                yield PictureView(id="preview")
                yield Canvas(id="about")
        yield Canvas(id="folder")

    def on_mount(self) -> None:
        self._recent = settings.recent_folders()[:6]
        recent = self.query_one("#recent", OptionList)
        recent.add_options([Content(printable(location(folder))) for folder in self._recent])
        self.query_one("#set").display = False
        self._show_recent()

    def enter(self) -> None:
        if not self._usable or not self.draft.photographs:
            self.rows()[0].entry.focus()
        elif self._model_is_needed:
            self._model.row.entry.focus()
        else:
            self.query_one("#pictures").focus()

    def show(self, findings: Findings) -> None:
        super().show(findings)
        self._checking = self.drafting.checking
        self._show_recent()
        self._count()
        self._show_folder()

    @property
    def _model(self) -> ModelField:
        return self.query_one(ModelField)

    @property
    def _model_is_needed(self) -> bool:
        return not self.draft.text(MODEL.name) or self._needs(self._model.row)

    def problems_of(self, name: str) -> list[Problem]:
        if name == MODEL.name:
            return self.findings.about(name)
        # Other problems are shown beside and below the photographs.
        return [problem for problem in self.findings.about(name) if problem.severity == "error"]

    def explanation(self) -> str:
        if self.query_one("#pictures").has_focus:
            return KEYS
        if self.query_one("#recent").has_focus:
            return "enter uses one of your recent folders."
        if self.query_one("#models").has_focus:
            return "enter takes this model. GB after the pixels: the smallest card that trains it, by the memory plan."
        if self._model.row.has_focus_within:
            return f"{MODEL.help} A part of a name narrows the list, down goes to it."
        return f"{PHOTOGRAPHS.help} right completes the path, ctrl+o opens a picker."

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in {"leave_out", "force", "crops", "masks"}:
            return self.query_one("#pictures").has_focus
        if action == "subfolders":
            return self.draft.choices.subfolders or self.drafting.below > 0
        return True

    def fill(self) -> None:
        """Show the photographs that were checked so far, instead of those shown now."""
        self._checking = self.drafting.checking
        self._desk = None
        if self.drafting.seen and not self._checking:
            from ti_tui.setup.crop_desk import CropDesk

            self._desk = CropDesk(self.draft, self.drafting.seen)
        self._fill_list(self.drafting.seen)
        self._count()
        # Only after enter was pressed for this folder: the cursor must not move by itself, nor into a closed step.
        if not self._checking and self._usable and self._entered and self._entered == self.draft.photographs:
            self._entered = ""
            if self.display:
                self.query_one("#pictures").focus()

    def add(self, photograph: SurveyedFile) -> None:
        """One more photograph was checked."""
        self._seen.append(photograph)
        pictures = self.query_one("#pictures", OptionList)
        self.query_one("#set").display = True
        pictures.add_option(Option(self._photographs.row(photograph)))
        if len(self._seen) == 1:
            pictures.highlighted = 0
        self._count()

    def after(self, row: FieldRow) -> None:
        if row.spec is MODEL:
            if self._model.narrows and self._model.enter_list():
                # Nothing is wrong yet: the model is about to be chosen.
                row.remove_class("-visited")
                self.show_row(row)
            else:
                self.after_last()
        elif self._recent and not self.draft.photographs:
            self.query_one("#recent").focus()
        elif self._model_is_needed:
            super().after(row)
        else:
            self.after_last()

    def on_model_field_picked(self, message: ModelField.Picked) -> None:
        message.stop()
        self._model.row.add_class("-visited")
        self._model.row.control.show_text(message.base)
        self.take(MODEL.name, message.base)
        self.after_last()

    def take(self, name: str, text: str) -> None:
        super().take(name, text)
        self._model.find()
        if name == MODEL.name:
            self._model.filter()

    def after_last(self) -> None:
        self._entered = self.draft.photographs
        if self._usable and not self._checking:
            self._entered = ""
            self.query_one("#pictures").focus()
        elif not self.draft.photographs:
            self.rows()[0].entry.focus()

    def action_leave_out(self) -> None:
        photograph, pictures = self._current, self.query_one("#pictures", OptionList)
        if photograph is None:
            return
        if photograph.picture is not None:
            self.draft.leave_out(photograph.name)
        at = self._seen.index(photograph)
        pictures.replace_option_prompt_at_index(at, self._photographs.row(photograph))
        if at + 1 < len(self._seen):
            pictures.highlighted = at + 1
        self._count()
        self.post_message(DraftChanged())

    def action_force(self) -> None:
        photograph = self._current
        if photograph is None:
            return
        can_be_forced = self._photographs.is_refused(photograph) and photograph.measured is not None
        if can_be_forced or photograph.name in self.draft.choices.forced:
            self.draft.force(photograph.name)
            self.post_message(DraftChanged())
        else:
            reason = "It cannot be read." if photograph.measured is None else "It is used already."
            self.notify(reason, timeout=2)

    def action_crops(self) -> None:
        if self._is_checked() and self._desk is not None and self._desk.names:
            from ti_tui.screens.review.crops import CropReview
            from ti_tui.setup.crop_desk import CropDesk

            # A separate desk, so that undo goes back to the start of the review and no further.
            desk, at = CropDesk(self.draft, self._seen), self._current
            review = CropReview(desk, at=at.name if at is not None else "", save=self.drafting.keep_draft)
            self.app.push_screen(review, self._cropped)

    def action_masks(self) -> None:
        if self._is_checked():
            self._masks_requested = True
            at = MASKS.index(self.draft.choices.masks)
            self.draft.choose_masks(MASKS[(at + 1) % len(MASKS)])
            self._changed()

    def action_subfolders(self) -> None:
        self.draft.take_subfolders(not self.draft.choices.subfolders)
        self._entered, self._checking = self.draft.photographs, True
        self._count()
        # The sub-folders are checked before the draft is assessed.
        self.post_message(DraftChanged())

    def _cropped(self, last: str | None) -> None:
        names = [photograph.name for photograph in self._seen]
        if last in names:
            self.query_one("#pictures", OptionList).highlighted = names.index(last)
        self._changed()

    def _is_checked(self) -> bool:
        """Whether all photographs were checked; if not, say so."""
        if self.drafting.checking or self._desk is None:
            self.notify("Still checking the photographs.", timeout=2)
            return False
        return True

    def _changed(self) -> None:
        """Crops or masks have changed."""
        self._fill_list(self._seen)
        self._count()
        self.post_message(DraftChanged())

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        if event.option_list.id == "pictures":
            self._show_current()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if event.option_list.id == "pictures":
            self.post_message(NextStep())
        else:
            self.take_folder(self._recent[event.option_index])

    def on_resize(self) -> None:
        self.call_after_refresh(self._show_current)
        self.call_after_refresh(self._show_folder)

    def take_folder(self, folder: Path) -> None:
        """Use `folder`, as if it had been typed."""
        self.rows()[0].add_class("-visited")
        self.take_path("photographs", folder)

    @property
    def _photographs(self) -> PhotographLines:
        return PhotographLines(self.draft, self._desk)

    @property
    def _usable(self) -> bool:
        return any(photograph.picture is not None for photograph in self._seen)

    @property
    def _current(self) -> SurveyedFile | None:
        at = self.query_one("#pictures", OptionList).highlighted
        return self._seen[at] if at is not None and at < len(self._seen) else None

    def _show_recent(self) -> None:
        self.query_one("#recent").display = bool(self._recent) and not self.draft.photographs

    def _fill_list(self, seen: Sequence[SurveyedFile]) -> None:
        """Fill the list; the cursor stays on its photograph."""
        pictures, current = self.query_one("#pictures", OptionList), self._current
        self._seen = list(seen)
        pictures.set_options([Option(self._photographs.row(photograph)) for photograph in seen])
        names = [photograph.name for photograph in seen]
        at = names.index(current.name) if current is not None and current.name in names else 0
        pictures.highlighted = at if seen else None
        self.query_one("#set").display = bool(seen)
        self._show_current()

    def _show_current(self) -> None:
        """Show the photograph under the cursor, and all that was found about it."""
        photograph, about = self._current, self.query_one("#about", Canvas)
        picture = self.query_one("#preview", PictureView)
        picture.display = photograph is None or photograph.measured is not None
        picture.show(photograph.path if photograph is not None and picture.display else None)
        about.draw(self._photographs.about(photograph, max(20, about.size.width)) if photograph is not None else [])

    def _show_folder(self) -> None:
        found = [
            problem
            for problem in self.findings.about("photographs")
            if problem.severity != "error" and problem.kind not in {OF_PICTURES, "below"}
        ]
        canvas = self.query_one("#folder", Canvas)
        width, tall = max(20, canvas.size.width), self.screen.size.height >= TALL
        canvas.draw(folder_lines(found, width, tall=tall) if self._seen else [])

    def _count(self) -> None:
        usable = [photograph for photograph in self._seen if not self._photographs.is_refused(photograph)]
        trained = [photograph for photograph in usable if not self._photographs.is_left_out(photograph)]
        parts = []
        if self._seen or self._checking:
            parts.append(number(len(trained), "image") + " to train")
        if left_out := len(usable) - len(trained):
            parts.append(f"{left_out} left out")
        if bad := len(self._seen) - len(usable):
            parts.append(f"{bad} cannot be used")
        if self._checking and self.draft.photographs:
            parts.append("checking ...")
        self.query_one("#count", Static).update(", ".join(parts) if self.draft.photographs else "")
        self._show_choices(trained)
        # On a small screen the list needs the room.
        self.query_one("#advice").display = not self._seen or self.screen.size.height >= TALL

    def _show_choices(self, trained: Sequence[SurveyedFile]) -> None:
        """Show the choices for the whole folder: sub-folders, masks."""
        lines = [line for line in (self._subfolder_line(), self._mask_line(trained)) if line]
        canvas = self.query_one("#choices", Canvas)
        canvas.display = bool(lines)
        canvas.draw(lines)

    def _subfolder_line(self) -> Line:
        """The choice about sub-folders, if they contain photographs."""
        taken, below = self.draft.choices.subfolders, self.drafting.below
        if not self.draft.photographs or not (taken or below):
            return []
        outcome = "included" if taken else f"{number(below, 'photograph')} in them"
        outcome += "" if self._seen or self._checking or taken else ", none in the folder itself"
        return choice_line(
            "s" if self._seen else "alt+s", "sub-folders", ("off", "on"), "on" if taken else "off", outcome
        )

    def _mask_line(self, trained: Sequence[SurveyedFile]) -> Line:
        """The choice of masks and how many images get one, if any do or the choice was changed."""
        chosen, have = self.draft.choices.masks, sum(map(self._photographs.has_mask, trained))
        if self._checking or not trained or not (self._masks_requested or chosen != "found" or have):
            return []
        if chosen == "none":
            outcome = "images are learned as a whole"
        elif not have:
            outcome = why_no_mask(chosen)
        elif self.draft.value("dataset.masks"):
            outcome = f"{have} of {len(trained)}; outside the mask hardly counts"
        else:
            outcome = f"{have} of {len(trained)}, not used: Masks in step 4 is off"
        return choice_line("m", "masks", MASKS, chosen, outcome)
