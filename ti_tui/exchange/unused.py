"""Fields that stand in a file and are not used there, since another field says so."""

from __future__ import annotations

from ti_tui.exchange.foreign_file import ForeignSettings
from ti_tui.exchange.values import is_off


def unused(source: ForeignSettings) -> dict[str, str]:
    """Why each of such fields is left out, by its name."""
    values = {item.name: item.value for item in source.fields}
    found: dict[str, str] = {}
    mode = str(values.get("clip_grad_mode", "norm")).lower()
    if source.program == "a1111" and mode != "norm":
        found["clip_grad_value"] = f"not used there: clip_grad_mode is {mode}"
    if source.program == "onetrainer":
        for name in values:
            place, _, key = name.rpartition(".")
            if not place.rpartition(".")[2].isdigit() or "concepts" not in place:
                place = next((part for part in _concepts(name)), "")
            if place and key != "enabled" and f"{place}.enabled" in values and is_off(values[f"{place}.enabled"]):
                found[name] = "not used there: this concept is switched off"
            elif key == "balancing" and str(values.get(f"{place}.balancing_strategy", "")).upper() == "SAMPLES":
                found[name] = "there it is the images drawn for an epoch; here each is used once"
    return found


def _concepts(name: str) -> list[str]:
    """`concepts.0` of `concepts.0.image.enable_random_flip`."""
    parts = name.split(".")
    return [".".join(parts[: at + 2]) for at, part in enumerate(parts[:-2]) if part == "concepts"]
