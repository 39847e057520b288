"""The crop review: each photograph with its crop box, which is moved and sized with the keyboard."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.color import Color, ColorParseError
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.widgets import Rule, Static
from textual.worker import get_current_worker

from ti_tui.dataset import faces
from ti_tui.dataset.crop_changes import FINE, GROW, STEP
from ti_tui.errors import UserError
from ti_tui.formatting import number, printable
from ti_tui.screens.base import fit_key_line
from ti_tui.screens.review import crop_lines as lines
from ti_tui.screens.review.base import ReviewBase
from ti_tui.screens.review.crop_images import Colour, Copies, as_trained, with_boxes
from ti_tui.screens.review.listing import CaptionRows, Row, labels
from ti_tui.setup.crop_desk import CropDesk
from ti_tui.setup.photographs import without_name
from ti_tui.widgets.canvas import Canvas, Line, cut
from ti_tui.widgets.field_row import problem_lines
from ti_tui.widgets.key_line import KeyLine
from ti_tui.widgets.picture import PictureView

if TYPE_CHECKING:
    from PIL import Image

    from ti_tui.widgets.graphics import CellSize

TRAINED = "as it will be trained"


class CropReview(ReviewBase, Screen[str | None]):
    """Shows the crops on a desk, starting with the photograph `at`; returns the one shown last.

    save: saves the draft.
    """

    CSS_PATH = "crops.tcss"
    AUTO_FOCUS = "#crops"
    help_text = lines.HELP
    help_terms = ("photograph", "image", "crop")
    BINDINGS = [
        Binding("left", "move(-1, 0)", "Move", key_display="←↑↓→", id="crops.left", tooltip="Move the box"),
        Binding("right", "move(1, 0)", "Right", show=False),
        Binding("up", "move(0, -1)", "Up", show=False),
        Binding("down", "move(0, 1)", "Down", show=False),
        Binding("H,shift+left", "move(-1, 0, True)", "Move a little", show=False, key_display="HJKL",
                id="crops.left-fine", tooltip="Move the box a little; also shift and the arrows"),
        Binding("L,shift+right", "move(1, 0, True)", "Right, a little", show=False),
        Binding("K,shift+up", "move(0, -1, True)", "Up, a little", show=False),
        Binding("J,shift+down", "move(0, 1, True)", "Down, a little", show=False),
        Binding("plus,equals_sign", "grow(1)", "Size", key_display="+ -", id="crops.grow",
                tooltip="A larger or a smaller box"),
        Binding("minus,underscore", "grow(-1)", "Smaller", show=False, id="crops.shrink"),
        Binding("space,enter,pagedown,n", "next(1)", "Next", key_display="space", id="crops.next",
                tooltip="Next photograph; also enter, n and page down"),
        Binding("backspace,pageup,p", "next(-1)", "Previous", show=False, key_display="p", id="crops.previous",
                tooltip="Previous photograph; also backspace and page up"),
        Binding("home", "next(-100000)", "First", show=False),
        Binding("end", "next(100000)", "Last", show=False),
        Binding("m", "mode", "Mode", id="crops.mode", tooltip="Next crop mode for this photograph"),
        Binding("f", "face", "Face", id="crops.face", tooltip="Follow the next face"),
        Binding("F", "framing", "Framing", show=False, id="crops.framing",
                tooltip="Around the face: close-up, head and shoulders, to the waist"),
        Binding("0", "reset", "Auto", id="crops.reset", tooltip="Crop automatically again"),
        Binding("A", "all", "All", show=False, id="crops.all", tooltip="Use this crop mode for all photographs"),
        Binding("x", "leave_out", "Out", id="crops.leave-out", tooltip="Leave out, or include again"),
        Binding("u,U,ctrl+z", "undo", "Undo", key_display="u", id="crops.undo"),
        Binding("z", "zoom", "Result", show=False, id="crops.zoom",
                tooltip="Show the crop large, or not"),
        Binding("escape", "back", "Back", key_display="esc", id="crops.back"),
        Binding("q", "back", "Back", show=False),
    ]  # fmt: skip

    def __init__(self, desk: CropDesk, *, at: str = "", save: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.desk = desk
        self.current = at if at in desk.names else desk.names[0]
        self._save = save
        self._copies = Copies()
        self._labels: dict[str, str] = {}

    def compose(self) -> ComposeResult:
        yield Canvas(id="head")
        yield Rule(line_style="heavy", classes="rule")
        with Horizontal(id="body"):
            yield CaptionRows(id="crops")
            yield PictureView(id="picture")
            with Vertical(id="trained"):
                yield Static(TRAINED, id="which", markup=False)
                yield PictureView(id="result")
        yield Rule(line_style="solid", classes="rule")
        yield Canvas(id="facts")
        yield Rule(line_style="solid", classes="rule")
        yield KeyLine()

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda _theme: self._show_photograph())

    def on_resize(self) -> None:
        narrow = fit_key_line(self)
        self._labels = labels(self.desk.names, 9 if narrow else 13)
        self.call_after_refresh(self._show)

    # The current photograph

    def action_next(self, by: int) -> None:
        at = self.desk.names.index(self.current) + by
        self._go(self.desk.names[min(max(at, 0), len(self.desk.names) - 1)])

    def on_caption_rows_clicked(self, message: CaptionRows.Clicked) -> None:
        message.stop()
        self._go(message.name)

    def action_zoom(self) -> None:
        self.toggle_class("-result")

    def action_back(self) -> None:
        self.keep()
        self.dismiss(self.current)

    def _go(self, name: str) -> None:
        self.current = name
        self.say("")
        self._show()

    # Changes

    def action_move(self, across: int, down: int, fine: bool = False) -> None:
        step = FINE if fine else STEP
        if self.desk.move(self.current, across * step, down * step):
            self._changed()
        else:
            crop = self.desk.crops(self.current)[0]
            whole = crop.box.width == crop.source[0] and crop.box.height == crop.source[1]
            self.say("The box covers the whole photograph: - makes it smaller." if whole else "The box is at the edge.")

    def action_grow(self, by: int) -> None:
        if self.desk.resize(self.current, GROW**by):
            self._changed()
        else:
            self.say("The box cannot be larger." if by > 0 else "A smaller box would be enlarged too much.")

    def action_mode(self) -> None:
        if len(self.desk.modes(self.current)) == 1 and self.desk.choice(self.current).mode == "auto":
            self.say("It already has the right shape: all modes give the same crop.")
            return
        self.desk.next_mode(self.current)
        self._changed()

    def action_face(self) -> None:
        if self._has_face():
            self.desk.next_face(self.current)
            self._changed()

    def action_framing(self) -> None:
        if self._has_face():
            self.desk.next_framing(self.current)
            self._changed()

    def action_reset(self) -> None:
        self.desk.reset(self.current)
        self._changed()

    def action_all(self) -> None:
        mode = self.desk.choice(self.current).mode
        if mode == "manual":
            self.say("A box set by hand is for this photograph only; choose another mode with m first.")
            return
        by_hand = self.desk.apply_to_all(self.current)
        but = f" but {number(by_hand, 'photograph')} cropped by hand" if by_hand else ""
        self._changed(f"All photographs{but} now use the mode “{mode}”. u undoes it.")

    def action_leave_out(self) -> None:
        self.desk.leave_out(self.current)
        self._changed()

    def action_undo(self) -> None:
        name = self.desk.undo()
        if name is None:
            self.say("There is nothing to undo.")
        else:
            self.current = name
            self._changed("Undone.")

    def _has_face(self) -> bool:
        content = self.desk.content(self.current)
        if not content.useful_faces:
            missing = content.faces is None and not faces.installed()
            self.say(
                "Face detection is not installed: pip install 'ti_tui[faces]'."
                if missing
                else "No large enough face was found."
            )
        return bool(content.useful_faces)

    def _changed(self, message: str = "") -> None:
        self.save_soon()
        self.say(message)
        self._show()

    def save_changes(self) -> None:
        self._save()

    # What is shown

    def _show(self) -> None:
        at = self.desk.names.index(self.current)
        sizes = {self.desk.target(name) for name in self.desk.names}
        head = lines.head(self.size.width, at + 1, len(self.desk.names), self.desk.rules(), sizes)
        self.query_one("#head", Canvas).draw([head])
        self.query_one(CaptionRows).show([self._row(name) for name in self.desk.names], at)
        self.show_message()
        self._show_photograph()

    def _row(self, name: str) -> Row:
        crops = self.desk.crops(name)
        odd = crops[0].padded or max(crop.upscale for crop in crops) > 1
        mark = "out" if self.desk.is_out(name) else "odd" if odd else "own" if self.desk.is_own(name) else "rule"
        return Row(name, mark, self._labels.get(name, name), lines.SHORT[crops[0].rule])

    def show_message(self) -> None:
        canvas, name = self.query_one("#facts", Canvas), self.current
        width, height = canvas.size.width, canvas.size.height
        if not width:
            return
        choice, content = self.desk.choice(name), self.desk.content(name)
        shown: list[Line] = [
            lines.facts(name, self.desk.crops(name), len(content.useful_faces), width),
            lines.modes(choice, self.desk.modes(name)),
        ]
        if self.message_text:
            shown.append([(cut(printable(self.message_text), width), "accent")])
        elif self.desk.is_out(name):
            shown.append([(cut("× left out; x includes it again", width), "muted")])
        else:
            for problem in self.desk.problems(name):
                shown += problem_lines(without_name(problem), width)
        canvas.draw([*shown[:height], *[[]] * (height - len(shown))])

    def _show_photograph(self) -> None:
        path, crops = self.desk.path(self.current), self.desk.crops(self.current)
        colours = {"line": self._colour("accent"), "ground": self._colour("background")}

        def whole(cells: CellSize, cell: CellSize) -> Image.Image:
            return with_boxes(self._copies.load(path), crops, cells, cell, **colours)

        def piece(cells: CellSize, cell: CellSize) -> Image.Image:
            return as_trained(self._copies.load(path), crops[0], cells, cell)

        which = f"{TRAINED}, the first of {len(crops)}" if len(crops) > 1 else TRAINED
        self.query_one("#which", Static).update(which)
        self.query_one("#picture", PictureView).draw(whole, path.name)
        self.query_one("#result", PictureView).draw(piece, path.name)
        self._load_near()

    def _colour(self, name: str) -> Colour:
        try:
            return Color.parse(self.app.theme_variables[name]).rgb
        except (KeyError, ColorParseError):
            return (0, 0, 0) if name == "background" else (255, 200, 0)

    @work(thread=True, exclusive=True, group="near", exit_on_error=False)
    def _load_near(self) -> None:
        """Load the copies of the neighbours in advance."""
        names, worker = self.desk.names, get_current_worker()
        at = names.index(self.current)
        for near in (at, at + 1, at - 1):
            if 0 <= near < len(names) and not worker.is_cancelled:
                try:
                    self._copies.load(self.desk.path(names[near]))
                except (UserError, OSError):
                    # The error is shown when that photograph is shown.
                    continue
