"""The brain behind the wizard and the commands: checks, the new run, defaults. No textual, no torch."""
