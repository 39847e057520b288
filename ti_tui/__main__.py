"""`python -m ti_tui` is `ti-tui`."""

from __future__ import annotations

from ti_tui.cli import main

if __name__ == "__main__":
    main()
