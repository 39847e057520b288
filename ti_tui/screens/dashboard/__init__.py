"""The dashboard: one run, running or finished."""
