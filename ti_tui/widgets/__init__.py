"""Textual pieces that the screens share."""
