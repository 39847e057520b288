"""How the dashboard's panels lie in each size of the terminal, and the keys that jump to one or make it large."""

from __future__ import annotations

from typing import Any

from textual.binding import Binding
from textual.screen import Screen
from textual.widgets import OptionList

from ti_tui.screens.dashboard.panels import Panel

PANELS = ("chart", "device", "log", "checkpoints", "samples")
"""Their names, in the order of their numbers."""
HUGE = (160, 40)
"""Columns and rows from which the samples have a column of their own."""
LARGE_COLUMNS = 120
"""Columns from which the chart has an axis for the rate."""
FULL_ROWS = 24
"""Screens with fewer rows show less of each panel."""
SAVES_CELLS, LEAST_LOWER = 46, 13
"""Columns of the checkpoints, and rows of checkpoints and samples, where the two stand beside each other."""
FULL_PANELS = ("chart-panel", "device-panel", "saves")
"""Panels that fill the screen in place; the others have a screen that shows more."""


class PanelLayout(Screen[Any]):
    """A screen with panels in a grid, `#body`. full: the id of the panel that fills the screen, or ""."""

    BINDINGS = [
        Binding("z", "full", "Full screen", show=False, id="dashboard.full",
                tooltip="The panel with the focus over the whole screen, and back"),
        Binding("escape", "back", "Back", show=False),
        *(Binding(str(number), f"jump({number})", name.capitalize(), show=False, id=f"dashboard.panel-{number}",
                  tooltip=f"Go to the panel: {name}") for number, name in enumerate(PANELS, start=1)),
    ]  # fmt: skip

    full = ""

    def panels_changed(self) -> None:
        """The panels have other sizes: draw them again."""
        raise NotImplementedError

    def open_panel(self, panel: Panel) -> bool:
        """Open the screen that shows more of a panel; returns whether there is one."""
        raise NotImplementedError

    def fit_panels(self) -> None:
        """Arrange the panels for the size of the screen."""
        body, (width, height) = self.query_one("#body"), self.size
        huge = width >= HUGE[0] and height >= HUGE[1]
        if huge != self.has_class("-huge"):
            self.set_class(huge, "-huge")
            # The grid fills its cells in the order of its children: the third column comes before the second row.
            body.move_child(self.query_one("#samples"), after=self.query_one("#side" if huge else "#saves"))
        self.set_class(width >= LARGE_COLUMNS, "-large")
        self.set_class(height < FULL_ROWS, "-tiny")
        if huge or self.has_class("-short") or self.has_class("-narrow"):
            body.styles.clear_rule("grid_rows")
        else:
            # As high as three images beside the checkpoints become, with title and caption.
            rows = max(LEAST_LOWER, ((width - SAVES_CELLS - 3) // 3 - 1) // 2 + 2)
            body.styles.grid_rows = f"1fr auto {min(rows, height * 9 // 20)}"
        self.panels_changed()

    def action_jump(self, number: int) -> None:
        """Move the focus to a panel, if it is shown in this size."""
        for panel in self.query(Panel):
            if panel.number == number and panel.region:
                (panel if panel.can_focus else panel.query_one(OptionList)).focus()

    def action_full(self) -> None:
        """Show the focused panel over the whole screen, or all panels again."""
        panel = next((panel for panel in self.query(Panel) if panel.has_focus or panel.has_focus_within), None)
        if self.full or panel is None:
            self._fill("")
        elif not self.open_panel(panel):
            self._fill(str(panel.id))

    def action_back(self) -> None:
        self._fill("")

    def _fill(self, panel: str) -> None:
        self.full = panel
        for name in FULL_PANELS:
            self.set_class(name == panel, f"-full-{name}")
        self.panels_changed()
