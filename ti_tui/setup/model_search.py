"""Finds the Stable Diffusion models on this machine, for the wizard's list: by their headers, in a few seconds.

Each place is searched by a thread of its own, so that a disk that does not answer holds up nothing but itself.
"""

from __future__ import annotations

import queue
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ti_tui import bounded
from ti_tui.errors import UserError
from ti_tui.formatting import location
from ti_tui.run.memory import ComputeMode, is_known, predict
from ti_tui.run.model import ModelError, ModelFacts, families, inspect_model, is_whole
from ti_tui.run.prediction import OtherObjective
from ti_tui.run.weight_shapes import WeightsError
from ti_tui.setup.model_places import ModelPlace

SECONDS = 5.0
MOST_FOLDERS = 300
"""Folders that are searched in one place."""
MOST_MODELS = 200
"""Models that are read in one place."""
LARGEST_HEADER = 8 * bounded.MIB
"""SDXL's header has 0.3 MiB; a larger one is not that of such a model."""
OTHER_FOLDERS = frozenset(
    {"lora", "loras", "lycoris", "vae", "controlnet", "embedding", "embeddings", "textual_inversion", "clip", "unet"}
    | {"clip_vision", "ip_adapter", "t2i_adapter", "upscale_models", "text_encoder", "text_encoders", "node_modules"}
)
"""Folders of the programs with other kinds of models, by their names in lower case."""

CARDS = (2, 3, 4, 6, 8, 10, 12, 16, 24)
"""Sizes of cards, in GB."""
FREE_SHARE = 0.85
"""Of a card's memory; the rest is used by a desktop, and kept in reserve."""
SMALLEST = ComputeMode(1, "plain", "all", bits=8)
"""The compute mode that needs least, but for one that is very slow."""


@dataclass(frozen=True)
class FoundModel:
    """A model on this machine.

    base:       what `model.base` is set to: a path, with ~ for the home folder, or a hub id.
    facts:      None for one that was not read, or that cannot be trained.
    refused:    why it cannot be trained here, in a word or two; "" if it can.
    """

    base: str
    path: Path
    size_bytes: int
    facts: ModelFacts | None = None
    refused: str = ""

    @property
    def name(self) -> str:
        """The hub id, or the name of the file or folder."""
        is_path = self.base.startswith(("/", "~"))
        return Path(self.base).name.removesuffix(".safetensors") if is_path else self.base

    @property
    def family(self) -> str:
        """`SD 1`, `SD 2 v`, `SDXL`; "" if it is not known."""
        if self.facts is None:
            return ""
        v = " v" if self.facts.prediction == "v_prediction" else ""
        return f"{families()[self.facts.family]['short']}{v}"

    @property
    def use(self) -> str:
        """What it is good for and what it needs: `512 px, from 2 GB`; or why it cannot be used."""
        if self.refused:
            return f"{self.refused}: not trainable"
        if self.facts is None:
            return "read when chosen"
        # Stable Diffusion 2 was published for 768 pixels with v-prediction, and for 512 with epsilon.
        small = (self.facts.family, self.facts.prediction) == ("sd2", "epsilon")
        pixels: int = 512 if small else families()[self.facts.family]["resolution"]
        card = least_card(self.facts, pixels)
        return f"{pixels} px, from {card} GB" if card else f"{pixels} px"


def least_card(facts: ModelFacts, resolution: int) -> int | None:
    """The smallest card, in GB, that trains it at that resolution by the memory plan; None if that is not known."""
    if not is_known(facts):
        return None
    need = predict(facts.family, SMALLEST, resolution=resolution, precision="fp16", cuda=True).training
    return next((card for card in CARDS if need <= card * 2**30 * FREE_SHARE), None)


def search_models(
    places: Iterable[ModelPlace], *, seconds: float = SECONDS, cancelled: Callable[[], bool] = lambda: False
) -> Iterator[FoundModel]:
    """The models in `places`, each once, as they are found; ends after that many seconds, whatever is still open.

    `places` is iterated in a thread.
    """
    deadline = time.monotonic() + seconds
    found: queue.SimpleQueue[FoundModel | Exception | int] = queue.SimpleQueue()

    def start(task: Callable[[], None]) -> None:
        def run() -> None:
            try:
                task()
            except Exception as error:
                found.put(error)
            finally:
                found.put(-1)

        found.put(1)
        # A daemon: neither the program's end nor this search waits for a disk that does not answer.
        threading.Thread(target=run, daemon=True).start()

    def search_all() -> None:
        for place in places:
            start(partial(_search, place, deadline, found.put))

    start(search_all)
    seen: set[Path] = set()
    working = 0
    while not cancelled() and time.monotonic() < deadline:
        try:
            item = found.get(timeout=0.1)
        except queue.Empty:
            continue
        if isinstance(item, Exception):
            raise item
        if isinstance(item, FoundModel):
            if item.path not in seen:
                seen.add(item.path)
                yield item
            continue
        working += item
        if not working:
            return


def _search(place: ModelPlace, deadline: float, put: Callable[[FoundModel], None]) -> None:
    """Put every model in `place`."""
    count = 0
    for base, path in _cached(place.path) if place.hub else _listed(place, deadline):
        if time.monotonic() > deadline or count == MOST_MODELS:
            return
        if (model := read_model(path, base)) is not None:
            count += 1
            put(model)


def _listed(place: ModelPlace, deadline: float) -> Iterator[tuple[str, Path]]:
    """(base, path) of what may be a model in a folder and those below it; nearer ones first."""
    level, folders = [place.path], 0
    for depth in range(place.depth + 1):
        below: list[Path] = []
        for folder in level:
            folders += 1
            if folders > MOST_FOLDERS or time.monotonic() > deadline:
                return
            try:
                entries = sorted(folder.iterdir())
                if folder / "model_index.json" in entries:
                    yield location(folder), folder
                    continue
                for entry in entries:
                    if entry.suffix.lower() in {".safetensors", ".ckpt"} and entry.is_file():
                        yield location(entry), entry
                    elif not entry.name.startswith(".") and entry.name.lower() not in OTHER_FOLDERS and entry.is_dir():
                        below.append(entry)
            except OSError:
                continue
        level = below if depth < place.depth else []


def _cached(cache: Path) -> Iterator[tuple[str, Path]]:
    """(hub id, folder) of what may be a model in the hub's cache."""
    try:
        entries = sorted(cache.iterdir())[:MOST_FOLDERS]
    except OSError:
        return
    for entry in entries:
        kind, _, name = entry.name.partition("--")
        if kind != "models" or "--" not in name:
            continue
        try:
            commit = bounded.read_text(entry / "refs" / "main", 100).strip()
            folder = entry / "snapshots" / Path(commit).name
            if is_whole(folder):
                yield name.replace("--", "/", 1), folder
        except (OSError, ValueError, TypeError, AttributeError):
            continue


def read_model(path: Path, base: str) -> FoundModel | None:
    """What the headers of a file or folder say of it; None for one that is no model of this kind at all.

    A .ckpt is not opened: its header is a program for Python's unpickler.
    """
    try:
        path = path.resolve()
        bytes_on_disk = _size(path)
        if path.suffix.lower() == ".ckpt":
            return FoundModel(base, path, bytes_on_disk)
        if path.is_file() and _header_bytes(path) > LARGEST_HEADER:
            return None
        return FoundModel(base, path, bytes_on_disk, inspect_model(path))
    except ModelError as error:
        return FoundModel(base, path, bytes_on_disk, refused=error.kind) if error.kind else None
    except WeightsError:
        return FoundModel(base, path, bytes_on_disk, refused="damaged")
    except OtherObjective:
        return FoundModel(base, path, bytes_on_disk, refused="EDM or flow")
    except (OSError, ValueError, RuntimeError, UserError):
        return None


def _header_bytes(path: Path) -> int:
    with bounded.open_regular(path) as file:
        start = file.read(8)
    return int(struct.unpack("<Q", start)[0]) if len(start) == 8 else 0


def _size(path: Path) -> int:
    """Bytes of a file, or of the files of a diffusers folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.glob("*/*") if file.is_file())
