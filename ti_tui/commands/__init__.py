"""The commands of `ti-tui`, one module each; they only ask and show, the work is done below."""
