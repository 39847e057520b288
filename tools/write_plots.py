"""Draws the plots of docs/loss.md from real runs: `python -m tools.write_plots FOLDER`, that of benchmarks.verdicts."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from ti_tui.results.report import page
from ti_tui.results.report.chart import HEIGHT, WIDTH, Chart, figure
from ti_tui.results.report.curves import charts_of
from ti_tui.run.events import EventReader, as_one_run, step_of
from ti_tui.run.file import load
from ti_tui.run.folder import RunFolder
from ti_tui.run.history import RunHistory

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
CSS = Path(page.__file__).with_name("page.css")
LEGEND = 24
PLOTS = {
    "loss": ("lime-star-0-3790", "loss", 600),
    "gain": ("lime-star-0-3790", "gain", 3790),
    "following": ("teal-ring-0-3790", "follows", 3790),
}
"""For each picture the run, the chart of its report, and the last step that is drawn."""


def plot(root: Path, key: str, until: int) -> str:
    """One chart of a run as an SVG file that needs no page around it."""
    folder = RunFolder(root)
    history = RunHistory()
    history.add(event for event in as_one_run(EventReader(folder.events).read_all()) if (step_of(event) or 0) <= until)
    charts = {chart.key: (chart, marks) for chart, marks in charts_of(history, load(folder.file))}
    chart, marks = charts[key]
    drawn = str(figure(chart, replace(marks, checkpoints=(), best=None, verdicts=marks.verdicts[:2], last_step=until)))
    # The last one is the chart; those before it are in the legend, for which there is no room outside a page.
    start = drawn.rindex("<svg")
    inner = drawn[drawn.index(">", start) + 1 : drawn.index("</svg>", start)] + _legend(chart)
    background = '<rect width="100%" height="100%" rx="6" style="fill: var(--sheet)"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT + LEGEND}" width="{WIDTH * 3 // 2}">'
    return f"{head}<style>{CSS.read_text(encoding='utf-8')}</style>{background}{inner}</svg>\n"


def _legend(chart: Chart) -> str:
    """The curves' names under the axis, each behind a piece of its line."""
    x, parts = 52, []
    for curve in chart.curves:
        if curve.points:
            y = HEIGHT + LEGEND // 2
            parts.append(f'<path class="line {curve.look}" d="M{x} {y}h18"/>')
            parts.append(f'<text x="{x + 24}" y="{y + 4}">{curve.name}</text>')
            x += 40 + round(6.2 * len(curve.name))
    return "".join(parts)


def main(runs: Path) -> None:
    """Write every plot."""
    for name, (run, key, until) in PLOTS.items():
        target = PICTURES / f"{name}.svg"
        target.write_text(plot(runs / run, key, until), encoding="utf-8")
        print(f"wrote {target}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
