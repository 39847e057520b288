"""Helper processes and their requests: captioning, drawing, probing. The parent's side; no torch."""
