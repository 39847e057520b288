"""What the wizard and the commands share: the draft, checks, making a run. No textual, no torch."""
