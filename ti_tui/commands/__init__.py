"""The commands of `ti-tui`, one module each. They parse options and print results; other packages do the work."""
