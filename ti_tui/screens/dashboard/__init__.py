"""The dashboard: a run that is going or done."""
