"""Reads and writes embedding files in all common formats. Imports torch only for pickled ones, inside a function."""
