"""What trackers write of each event: scalars, texts and samples, by their tags."""

from __future__ import annotations

import io
from collections.abc import Iterator

from ti_tui import bounded
from ti_tui.formatting import printable
from ti_tui.run.events import LARGEST_NUMBER, Event
from ti_tui.run.folder import RunFolder

MOST_IMAGES, LARGEST_IMAGE = 64, 16 * bounded.MIB
SCALARS: dict[str, dict[str, str]] = {
    "step": {
        "loss": "train/loss",
        "rate": "train/learning_rate",
        "gradient_norm": "train/gradient_norm",
        "seconds": "train/seconds_per_step",
    },
    "eval": {
        "loss": "eval/loss",
        "gain": "eval/gain",
        "held_gain": "eval/gain_held_out",
        "following": "eval/prompt_following",
    },
    "memory": {"used_bytes": "memory/used_bytes", "peak_bytes": "memory/peak_bytes"},
}
"""Tag of each number in an event, by the event's kind."""


def scalars_of(event: Event) -> dict[str, float]:
    """The numbers of an event by their tags; those that are none are left out."""
    found = {}
    for name, tag in SCALARS.get(event.kind, {}).items():
        value = event.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST_NUMBER:
            found[tag] = float(value)
    return found


def texts_of(event: Event) -> dict[str, str]:
    """The texts of an event by their tags."""
    match event.kind:
        case "verdict":
            return {"verdict": printable(f"{event.get('verdict', '')}: {event.get('reason', '')}")}
        case "warning" | "error":
            return {event.kind: printable(str(event.get("message", "")))}
        case "sample":
            prompts = event.get("prompts") or []
            return {"prompts": "\n\n".join(f"{number}. {printable(text)}" for number, text in enumerate(prompts, 1))}
    return {}


def images_of(folder: RunFolder, event: Event) -> Iterator[tuple[str, bytes, tuple[int, int]]]:
    """(tag, content of the PNG file, (width, height)) of each sample that an event names and the run folder holds."""
    if event.kind != "sample":
        return
    from PIL import Image

    for number, name in enumerate(dict.fromkeys((event.get("files") or [])[:MOST_IMAGES]), start=1):
        path = folder.root / name
        try:
            if not path.resolve().is_relative_to(folder.root.resolve()) or path.suffix != ".png":
                continue
            content = bounded.read_bytes(path, LARGEST_IMAGE)
            with Image.open(io.BytesIO(content)) as image:
                size = image.size
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
        yield f"samples/prompt_{number:02d}", content, size
