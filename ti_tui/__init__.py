"""ti_tui trains Stable Diffusion textual-inversion embeddings; `ti_tui.cli` is its door."""

__version__ = "0.1.0"
