"""Looks into the folder of a transformers model before anything is loaded: a captioner, a CLIP model. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ti_tui.errors import UserError
from ti_tui.run.weight_shapes import Shapes, WeightsError, read_shapes

COPY_AGAIN = "Copy the whole folder again."
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""As transformers takes them: safetensors come first."""
PROCESSOR = ("preprocessor_config.json", "processor_config.json")
"""How the model wants its pictures; today's transformers writes the second where the first was."""


@dataclass(frozen=True)
class ModelFolder:
    """A folder in the layout of transformers. error: what is raised for whatever is wrong with it."""

    path: Path
    error: type[UserError]

    def has(self, name: str) -> bool:
        return (self.path / name).is_file()

    def table(self, name: str) -> dict[str, Any]:
        """What stands in one of the JSON files."""
        path = self.path / name
        try:
            values = json.loads(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise self.error(f"{path} cannot be read: {error.strerror or error}", remedy=COPY_AGAIN) from None
        except (ValueError, RecursionError) as error:
            raise self.error(f"{path} is damaged: it is no JSON ({error})", remedy=COPY_AGAIN) from None
        if not isinstance(values, dict):
            raise self.error(f"{path} is damaged: it is no table", remedy=COPY_AGAIN)
        return values

    def refuse_code(self, config: Mapping[str, Any], remedy: str) -> None:
        """Refuse a model whose config.json names code that comes with it."""
        if config.get("auto_map"):
            raise self.error(
                f"{self.path} needs code that comes with it (auto_map in config.json), and such code is never run here",
                remedy=remedy,
            )

    def weights(self) -> tuple[Shapes, bool]:
        """(shapes by tensor name, whether from safetensors) of the weights, in one file or in several."""
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
        """The file of that name, or the parts that its index names; none if neither is there."""
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
