"""EveryDream2trainer's settings for its textual inversion plugin: what their fields are here."""

from __future__ import annotations

from ti_tui.exchange.mapping import Counterpart, joins, lacks, same
from ti_tui.exchange.values import text

FIELDS: tuple[Counterpart, ...] = (
    joins("tokens.*.token", "token", "embedding.token", text),
    joins("tokens.*.initializer", "words", "embedding.init", text),
    same("tokens.*.vector_length", "embedding.vectors", default=1),
    *lacks("documentation.**", "it explains the file"),
)
