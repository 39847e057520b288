"""Embedding files: every form in use, in and out. Imports torch only for pickled forms, inside a function."""
