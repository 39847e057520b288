"""The trainer: a process of its own, `python -m ti_tui.training RUN`. It meets the screens in the run folder only."""
