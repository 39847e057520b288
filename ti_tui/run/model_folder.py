"""Inspects the folder of a transformers model (a captioner, a CLIP model) before anything is loaded. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ti_tui import bounded
from ti_tui.errors import UserError
from ti_tui.run.weight_shapes import Shapes, WeightsError, read_shapes

COPY_AGAIN = "Copy the whole folder again."
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""In transformers' order: safetensors first."""
PROCESSOR = ("preprocessor_config.json", "processor_config.json")
"""How images are prepared for the model; newer transformers write the second name."""


@dataclass(frozen=True)
class ModelFolder:
    """A folder in the layout of transformers. error: the exception class for problems with it."""

    path: Path
    error: type[UserError]

    def has(self, name: str) -> bool:
        return (self.path / name).is_file()

    def table(self, name: str) -> dict[str, Any]:
        """The content of one of the JSON files."""
        path = self.path / name
        try:
            values = bounded.read_json(path)
        except OSError as error:
            raise self.error(f"{path} cannot be read: {error.strerror or error}", remedy=COPY_AGAIN) from None
        except (ValueError, RecursionError) as error:
            raise self.error(f"{path} is damaged: not valid JSON ({error})", remedy=COPY_AGAIN) from None
        if not isinstance(values, dict):
            raise self.error(f"{path} is damaged: not a JSON object", remedy=COPY_AGAIN)
        return values

    def refuse_code(self, config: Mapping[str, Any], remedy: str) -> None:
        """Refuse a model whose config.json names code in its folder."""
        if config.get("auto_map"):
            raise self.error(
                f"{self.path} needs code of its own (auto_map in config.json), which is never run here",
                remedy=remedy,
            )

    def weights(self) -> tuple[Shapes, bool]:
        """(shapes by tensor name, whether read from safetensors) of the weights, in one file or several."""
        shapes: Shapes = {}
        for name in WEIGHTS:
            if not (files := self._weight_files(name)):
                continue
            try:
                for file in files:
                    shapes |= read_shapes(file)
            except WeightsError as error:
                raise self.error(error.message, remedy=error.remedy) from None
            return shapes, name == WEIGHTS[0]
        raise self.error(f"{self.path} holds no weights ({WEIGHTS[0]})", remedy=COPY_AGAIN)

    def _weight_files(self, name: str) -> list[Path]:
        """The file of that name, or the parts listed in its index; empty if neither is there."""
        index = f"{name}.index.json"
        if self.has(name):
            return [self.path / name]
        if not self.has(index):
            return []
        table = self.table(index).get("weight_map")
        parts = sorted({str(part) for part in table.values()}) if isinstance(table, dict) else []
        missing = [part for part in parts if not self.has(part)]
        if missing or not parts:
            lacks = f"lacks {', '.join(missing)}" if missing else f"has an empty {index}"
            raise self.error(f"{self.path} {lacks}", remedy=COPY_AGAIN)
        return [self.path / part for part in parts]
