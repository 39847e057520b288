"""`ti-tui runs`: runs with where they are."""

from __future__ import annotations

import time
from pathlib import Path

import click

from ti_tui.commands import show
from ti_tui.run.folder import RunFolder
from ti_tui.settings import known_runs


@click.command(short_help="List runs with where they are.")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
def command(folder: Path | None) -> None:
    """List the runs made or trained on this machine, or those in FOLDER, latest first."""
    roots = _runs_in(folder) if folder else known_runs()
    if not roots:
        click.echo("No runs yet. Make one with `ti-tui init`." if not folder else f"No runs in {folder}.")
        return
    rows = [_row(RunFolder(root)) for root in roots]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        click.echo("  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip())


def _row(folder: RunFolder) -> tuple[str, str, str, str]:
    status = folder.current_status()
    if status is None:
        return show.location(folder.root), "not started", "", ""
    ago = f"{show.seconds(max(0.0, time.time() - status.updated))} ago"
    return show.location(folder.root), status.phase, f"step {status.step} of {status.total_steps}", ago


def _runs_in(folder: Path) -> list[Path]:
    found = [file.parent for pattern in ("run.toml", "*/run.toml", "*/*/run.toml") for file in folder.glob(pattern)]
    return sorted(found, key=lambda root: (root / "run.toml").stat().st_mtime, reverse=True)
