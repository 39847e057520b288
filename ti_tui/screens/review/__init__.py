"""Reviewing a set of images one by one: their captions and their crops."""
