"""A run as the writers for other programs need it: with absolute paths, and with what `auto` decides."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ti_tui.dataset.listing import PictureFolder, pictures_in, places, raise_unless_folder
from ti_tui.paths import is_there
from ti_tui.run import file as run_file
from ti_tui.run.folder import RunFolder
from ti_tui.run.hardware import find_hardware
from ti_tui.run.model import ModelFacts, find_model, inspect_model, with_prediction
from ti_tui.run.plan import choose_precision, make_plan
from ti_tui.run.problems import Problems
from ti_tui.run.recipe import RunFile
from ti_tui.run.scheme import Scheme, Segment, format_scheme

PATHS = ("model.base", "model.vae", "model.tokenizer", "dataset.regularisation", "dataset.template", "embedding.init",
         "save.install_to")  # fmt: skip


@dataclass(frozen=True)
class ExportSource:
    """A run, and what follows for it on this device.

    subsets:    the folders with its images, and their repeats. images: of an epoch, repeats counted.
    batch_size, accumulation, precision: what the run file says, or what `auto` decides here.
    facts:      of its model; None for a hub id that is not downloaded.
    """

    folder: RunFolder
    run: RunFile
    subsets: tuple[PictureFolder, ...]
    images: int
    batch_size: int
    accumulation: int
    precision: str
    facts: ModelFacts | None

    @classmethod
    def of(cls, folder: RunFolder) -> ExportSource:
        """Read a run. Raises UserError."""
        run = run_file.load(folder.file)
        counted = picture_folders(folder.path(run.dataset.images))
        subsets, images = tuple(place for place, _ in counted), sum(place.repeats * count for place, count in counted)
        path = find_model(run.model.base, folder.root)
        facts = with_prediction(inspect_model(path), run.model.prediction) if path is not None else None
        hardware = find_hardware(run.training.device)
        batch, accumulation = run.training.batch_size, run.training.accumulation
        if facts is not None and "auto" in (batch, accumulation):
            plan = make_plan(run, facts, max(images, 1), hardware)
            batch, accumulation = plan.batch_size, plan.accumulation
        elif batch == "auto":
            batch = 1
        if accumulation == "auto":
            accumulation = max(1, round(max(images, 1) / int(batch)))
        precision = choose_precision(run.training.precision, hardware, {})
        return cls(folder, run, subsets, images, int(batch), int(accumulation), precision, facts)

    def value(self, name: str) -> Any:
        """The value of a run file field as plain data; paths that exist are absolute."""
        table, _, key = name.partition(".")
        value = self.run.model_dump()[table][key]
        if name in PATHS and isinstance(value, str) and value:
            path = self.folder.path(value)
            return str(path.absolute()) if is_there(path) else value
        return value

    @property
    def scheme(self) -> Scheme:
        return self.run.scheme.scheme()

    @property
    def scheme_text(self) -> str:
        return format_scheme(self.scheme.segments)

    @property
    def longest(self) -> Segment:
        """The segment with the most steps: its rate stands for all where there can be only one."""
        return max(self.scheme.segments, key=lambda segment: segment.steps)

    @property
    def family(self) -> str:
        """sd1, sd2 or sdxl; for a model that is not here, what its name says."""
        if self.facts is not None:
            return self.facts.family
        name = self.run.model.base.lower()
        return "sdxl" if "xl" in name else "sd2" if re.search(r"(-|v)2", name) else "sd1"

    @property
    def predicts_v(self) -> bool:
        said = self.facts.prediction if self.facts is not None else self.run.model.prediction
        return said == "v_prediction"

    @property
    def init_file(self) -> str:
        """The embedding file that the vectors start from; "" if they start from words."""
        init = str(self.value("embedding.init"))
        return init if Path(init).is_absolute() and is_there(Path(init)) else ""

    @property
    def prompts(self) -> list[str]:
        """Its sample prompts with the token in place of [name]."""
        return [line.replace("[name]", self.run.embedding.token) for line in self.run.sample.prompts]


def picture_folders(folder: Path) -> list[tuple[PictureFolder, int]]:
    """`folder` and kohya's folders in it, as far as they hold images, and how many. Raises DatasetError."""
    raise_unless_folder(folder)
    counted = ((place, len(pictures_in(place.folder, Problems(), ""))) for place in places(folder))
    return [(PictureFolder(place.folder.absolute(), place.repeats), count) for place, count in counted if count]
