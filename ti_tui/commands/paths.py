"""`ti-tui paths`: where ti_tui keeps its files."""

from __future__ import annotations

import click

from ti_tui import settings
from ti_tui.commands import show


@click.command()
def command() -> None:
    """Show where settings, themes, caches and the list of runs are. Nothing is created."""
    show.table(
        [
            ("settings", str(settings.config_folder())),
            ("own themes", str(settings.config_folder() / "themes")),
            ("shipped themes", str(settings.shipped_themes_folder())),
            ("cache", str(settings.cache_folder())),
            ("state", str(settings.state_folder())),
        ],
        indent=0,
    )
