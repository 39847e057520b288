"""Makes a scheme of what a foreign file says about learning rate, scheduler, warm-up, steps and epochs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ti_tui.errors import UserError
from ti_tui.exchange.gathering import Contribution, Gathered
from ti_tui.exchange.mapping import NoCounterpart, Part
from ti_tui.exchange.paths_in_files import found_path
from ti_tui.exchange.values import number, shown
from ti_tui.run.scheme import MOST_STEPS, Scheme, SchemeError, SchemeShape, Segment, parse, segment_values

PIECES = 24
"""Segments that a curve becomes which no shape describes."""
OF_THE_RATE: tuple[Part, ...] = (
    "rate", "steps", "epochs", "epochs before steps", "scheduler", "cycles", "power", "lowest rate", "lowest share",
    "scheduler arguments", "warm-up", "warm-up percent", "rate times batch", "repeats of an epoch",
)  # fmt: skip
RateCurve = Callable[[float], float]


def schedule(g: Gathered) -> None:
    """Set the scheme, and say what became of each field that it is made from."""
    found = {part: g.first(part) for part in OF_THE_RATE}
    if all(each is None or each.default for each in found.values()) and not g.source.complete:
        return
    steps = _total_steps(g, found)
    rate = found["rate"]
    if rate is None:
        _settle_all(g, found, "left out", "there is no learning rate in the file")
        return
    if steps is None:
        _settle_all(g, found, "changed", "steps follow from the number of images: give --images FOLDER")
        g.needs["scheme.segments"] = "--images FOLDER"
        return
    if steps > MOST_STEPS:
        _settle_all(g, found, "left out", f"a run has at most {MOST_STEPS} steps")
        return
    try:
        scheme, note, exact = _scheme(g, found, rate, steps)
    except (SchemeError, NoCounterpart) as error:
        why = error.sentence if isinstance(error, UserError) else str(error)
        _settle_all(g, found, "left out", why)
        return
    g.set("scheme.segments", segment_values(scheme.segments), by=rate.name)
    if scheme.shape != "segments":
        g.set("scheme.shape", scheme.shape)
    if scheme.warmup_steps:
        g.set("scheme.warmup_steps", scheme.warmup_steps)
    together = "a rate and its steps make a segment"
    scaled = note if found["rate times batch"] else together
    g.settle(rate, "changed", g.show("scheme.segments"), scaled)
    g.settle(found["steps"], "changed", g.show("scheme.segments"), together)
    named = found["scheduler"]
    if named is not None:
        alike = exact and str(named.value).lower() in ("constant", "cosine", "linear")
        ours = g.show("scheme.shape") if scheme.shape != "segments" else "" if alike else g.show("scheme.segments")
        g.settle(named, "same" if alike else "changed", ours, note)
    g.settle(found["rate times batch"], "changed", g.show("scheme.segments"), note)
    curved = named is not None and str(named.value).lower() not in ("constant", "constant_with_warmup")
    for part in ("cycles", "power", "lowest rate", "lowest share", "scheduler arguments"):
        used = curved and not exact
        told = note if used else "this scheduler has no use for it" if note == "" else note
        g.settle(found[part], "changed" if used else "same", "", told)
    _settle_all(g, found, "same", "there is nothing to change")


def _settle_all(g: Gathered, found: dict[Part, Contribution | None], fate: Any, note: str) -> None:
    for each in found.values():
        g.settle(each, fate, note=note)


def _total_steps(g: Gathered, found: dict[Part, Contribution | None]) -> int | None:
    """The steps of the whole run; None if they depend on images that are not known. Settles epochs."""
    steps, epochs = found["steps"], found["epochs before steps"]
    if epochs is None and (steps is None or steps.default) and found["epochs"] is not None:
        epochs = found["epochs"]
        if epochs.default and steps is not None:
            epochs = None
    if epochs is None:
        g.settle(found["epochs"], "left out", note=f"{steps.name if steps else 'nothing'} decides")
        g.settle(found["repeats of an epoch"], "changed", note="only the length of an epoch there, which steps replace")
        return int(steps.value) if steps is not None else None
    for other in (steps, found["epochs"]):
        if other is not epochs:
            g.settle(other, "left out", note=f"{epochs.name} decides")
    images = _images(g)
    if images is None:
        return None
    times = int(g.value("repeats of an epoch", 1))
    batch, accumulation = int(g.value("batch", 1)), int(g.value("accumulation", 1)) * int(g.value("processes", 1))
    each = max(1, math.ceil(math.ceil(images * times / batch) / accumulation))
    total = each * max(1, round(float(epochs.value)))
    how = f"{shown(epochs.value)} epochs of {images * times} images in steps of {batch * accumulation}: {total} steps"
    g.settle(epochs, "changed", f"{total} steps", how)
    g.settle(found["repeats of an epoch"], "changed", f"{total} steps", how)
    return total


def _images(g: Gathered) -> int | None:
    """Images of an epoch, repeats counted; None if the folder is not known or cannot be read."""
    from ti_tui.dataset.listing import pictures_in, places
    from ti_tui.run.problems import Problems

    folder = found_path(g.own.get("photographs", ""), g.folder)
    if folder is None or not folder.is_dir():
        return None
    try:
        given = int(g.own["repeats"]) if "repeats" in g.own else None
        counted = [(len(pictures_in(place.folder, Problems(), "")), place.repeats) for place in places(folder)]
    except OSError:
        return None
    return sum(count * (given or repeats) for count, repeats in counted) or None


def _scheme(
    g: Gathered, found: dict[Part, Contribution | None], rate: Contribution, steps: int
) -> tuple[Scheme, str, bool]:
    """The scheme; what changed in it; and whether it has the same rates as theirs at every step."""
    if isinstance(rate.value, str):
        return parse(rate.value, "until", total_steps=steps), "", True
    value, note = float(rate.value), ""
    if found["rate times batch"] is not None:
        factor = int(g.value("batch", 1)) * int(g.value("accumulation", 1)) * int(g.value("processes", 1))
        value, note = value * factor, f"the rate is multiplied by the effective batch, {factor}, as there"
    kind = found["scheduler"]
    name = str(kind.value).lower().replace("constant_with_warmup", "constant") if kind else "constant"
    arguments = found["scheduler arguments"].value if found["scheduler arguments"] else {}
    if "step_rules" in arguments:
        return _of_rules(str(arguments["step_rules"]), value, steps), note or "exactly as there", True
    shape, curve, last, said = _shape(g, found, name, arguments, value)
    warmup = _warmup(found, steps, name, g, kind)
    if curve is not None:
        segments = _approximated(curve, value, steps)
        said = said or f"drawn in {len(segments)} segments"
    elif last and steps > 1:
        segments = (Segment(value, steps - 1), Segment(last, 1))
    else:
        segments = (Segment(value, steps),)
    warmup = min(warmup, segments[0].steps)
    exact = curve is None and not said and (not warmup or shape == "segments")
    if warmup and shape != "segments":
        said = said or "the ramp of the warm-up lies on the curve, which begins at step 0"
    _settle_warmup(g, found, warmup)
    return Scheme(segments, warmup, shape), "; ".join(filter(None, (said, note))), exact


def _shape(
    g: Gathered, found: dict[Part, Contribution | None], name: str, arguments: dict[str, Any], rate: float
) -> tuple[SchemeShape, RateCurve | None, float, str]:
    """Our shape of their scheduler, or its curve; the rate that it ends at (0 for none); and what changes."""
    cycles = float(g.value("cycles", arguments.get("num_cycles", 1)) or 1)
    power = float(g.value("power", arguments.get("power", 1)) or 1)
    lowest = number(g.value("lowest rate", arguments.get("eta_min", arguments.get("lr_end", 0))) or 0)
    lowest = lowest or rate * number(g.value("lowest share", arguments.get("min_lr_ratio", 0)) or 0)
    last = lowest if 0 < lowest < rate else 0.0
    floor = last / rate

    def above(curve: RateCurve) -> RateCurve:
        return lambda done: floor + (1 - floor) * curve(done)

    match name:
        case "constant" | "":
            return "segments", None, 0.0, ""
        case "linear":
            return "linear", None, last, ""
        case "cosine" | "cosine_with_min_lr" | "cosineannealinglr":
            return "cosine", None, last, ""
        case "polynomial" if power == 1:
            return "linear", None, last, ""
        case "polynomial":
            return "segments", above(lambda done: (1 - done) ** power), last, ""
        case "cosine_with_restarts" | "cosine_with_hard_restarts" if cycles <= 1:
            return "cosine", None, last, ""
        case "cosine_with_restarts" | "cosine_with_hard_restarts":
            return "segments", above(lambda done: (1 + math.cos(math.pi * (cycles * done % 1))) / 2), last, ""
        case "rex":
            return "segments", above(lambda done: (1 - done) / (0.1 + 0.9 * (1 - done))), last, ""
        case "inverse_sqrt":
            return "segments", lambda done: 1 / math.sqrt(1 + done), 0.0, ""
        case _:
            return "segments", None, 0.0, f"there is no scheduler {shown(name)} here; the rate is constant"


def _warmup(
    found: dict[Part, Contribution | None], steps: int, name: str, g: Gathered, kind: Contribution | None
) -> int:
    """Steps of the warm-up. Below 1 it is a share of the run; the constant scheduler of most programs has none."""
    ignored = name == "constant" and g.source.program in ("kohya", "diffusers", "invoke-training")
    if ignored and "warmup" not in str(kind.value if kind else ""):
        return 0
    given, percent = found["warm-up"], found["warm-up percent"]
    if given is not None:
        return round(float(given.value) * steps) if float(given.value) < 1 else round(float(given.value))
    return round(float(percent.value) / 100 * steps) if percent is not None else 0


def _settle_warmup(g: Gathered, found: dict[Part, Contribution | None], warmup: int) -> None:
    given, percent = found["warm-up"], found["warm-up percent"]
    ours = f"scheme.warmup_steps = {warmup}" if warmup else ""
    decisive, other = (given, percent) if given is not None else (percent, None)
    if decisive is None:
        return
    g.settle(other, "left out", note=f"{decisive.name} decides")
    if not warmup:
        g.settle(decisive, "same", note="the constant scheduler has no warm-up there, nor here")
    elif decisive is percent or float(decisive.value) != warmup:
        g.settle(decisive, "changed", ours, "in steps, within the first segment")
    else:
        g.settle(decisive, "same", ours)


def _of_rules(rules: str, rate: float, steps: int) -> Scheme:
    """kohya's `step_rules`: multiples of the rate, each with the step that it holds until; the last has none."""
    # sd-scripts reads the value as Python, so it stands in quotes.
    parts = [part.strip() for part in rules.strip().strip("'\"").split(",") if part.strip()]
    if len(parts) > 1000:
        raise SchemeError("it has more than 1000 step_rules")
    text = ", ".join(
        f"{number(factor) * rate:.12g}{colon}{until}"
        for factor, colon, until in (part.partition(":") for part in parts)
    )
    return parse(text, "until", total_steps=steps)


def _approximated(curve: RateCurve, rate: float, steps: int) -> tuple[Segment, ...]:
    """`curve` (of the share of steps that is done, from 0 to 1) times `rate`, as segments."""
    pieces = min(PIECES, steps)
    ends = [round(steps * (piece + 1) / pieces) for piece in range(pieces)]
    segments, begin = [], 0
    for end in ends:
        middle = (begin + end) / 2 / steps
        value = float(f"{max(rate * curve(middle), rate * 1e-6):.4g}")
        segments.append(Segment(value, end - begin))
        begin = end
    return tuple(segments)
