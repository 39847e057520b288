"""Starts helper processes for captioning, drawing and probing, and talks to them. The parent's side; no torch."""
