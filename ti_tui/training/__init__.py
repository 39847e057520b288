"""The trainer, a separate process: `python -m ti_tui.training RUN`. It shares only the run folder with the screens."""
