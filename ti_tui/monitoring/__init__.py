"""Follows and steers a run from outside while it trains. The dashboard's logic; no textual."""
