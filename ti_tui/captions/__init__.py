"""Reviewing, filtering and editing captions. No torch, no textual."""
