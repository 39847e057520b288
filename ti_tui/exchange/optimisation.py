"""Settles how it is learned and saved: batches, optimizer, loss, number format, intervals; each from several fields."""

from __future__ import annotations

from ti_tui.exchange.gathering import Contribution, Gathered
from ti_tui.exchange.mapping import NoCounterpart, Part
from ti_tui.exchange.optimizer_names import DECAY_OF_ADAMW, TAKEN, is_exact
from ti_tui.exchange.values import coerced, is_off, literal, shown
from ti_tui.run.file import problem_with

LARGEST_BATCH = 64


def batches(g: Gathered) -> None:
    """Batch size, accumulation and processes: the effective batch stays the same on one device."""
    batch, accumulation, processes = g.first("batch"), g.first("accumulation"), g.first("processes")
    if batch is None and accumulation is None:
        return
    size, times = int(batch.value if batch else 1), int(accumulation.value if accumulation else 1)
    several = int(processes.value if processes else 1)
    split = -(-size // LARGEST_BATCH)
    ours, factor = -(-size // split), split * several * times
    if factor > 1024 or ours > LARGEST_BATCH:
        for found in (batch, accumulation, processes):
            g.settle(found, "left out", note="an effective batch of this size is not possible here")
        return
    effective = f"{size * times * several} images in a step"
    if batch is not None:
        g.set("training.batch_size", ours, by=batch.name)
        g.settle(
            batch,
            "same" if ours == size else "changed",
            g.show("training.batch_size"),
            "" if ours == size else effective,
        )
    g.set("training.accumulation", factor, by=accumulation.name if accumulation else "")
    if accumulation is not None:
        alike = factor == times
        g.settle(
            accumulation, "same" if alike else "changed", g.show("training.accumulation"), "" if alike else effective
        )
    if processes is not None:
        note = f"{effective}, on one device" if several > 1 else "one process here too"
        g.settle(
            processes,
            "changed" if several > 1 else "same",
            g.show("training.accumulation") if several > 1 else "",
            note,
        )


def optimizer(g: Gathered) -> None:
    """The optimizer with its arguments, as far as ours takes them."""
    found = g.first("optimizer")
    if found is not None and "training.optimizer" not in g.fields:
        g.set("training.optimizer", found.value, by=found.name)
        exact = is_exact(found.source.value, found.value)
        g.settle(found, "same" if found.source.value == found.value else "changed", g.show("training.optimizer"),
                 "its name here" if exact else "the nearest that there is here")  # fmt: skip
    elif found is not None:
        g.settle(found, "left out", note=f"{g.setters['training.optimizer']} decides")
    name = str(g.fields.get("training.optimizer", "adamw"))
    taken: dict[str, object] = {}
    for group in g.all_of("optimizer arguments"):
        said = [_argument(g, name, key, value, taken) for key, value in group.value.items()]
        kept, lost = [text for text, ok in said if ok], [text for text, ok in said if not ok]
        note = "; ".join(["left out: " + ", ".join(lost)] if lost else [])
        g.settle(group, "changed" if kept else "left out", ", ".join(kept), note or "by name")
    for one in g.all_of("optimizer argument"):
        key = one.source.key.rpartition(".")[2].removeprefix("adam_").replace("epsilon", "eps")
        text, ok = _argument(g, name, key, one.value, taken)
        if ok:
            g.settle(one, "changed", text, "an argument of the optimizer")
        else:
            off = is_off(one.value)
            why = "off here too" if off else f"{name} here has no argument {key}"
            g.settle(one, "same" if off else "left out", note=why)
    first, second = taken.pop("beta1", None), taken.pop("beta2", None)
    if first is not None or second is not None:
        taken["betas"] = [0.9 if first is None else first, 0.999 if second is None else second]
    # What torch takes anyway is not written.
    usual = {"betas": [0.9, 0.999], "eps": 1e-8, "amsgrad": False}
    taken = {key: value for key, value in taken.items() if usual.get(key) != value}
    if taken and not problem_with("training.optimizer_arguments", taken):
        g.set("training.optimizer_arguments", taken)
    adamw = name in ("adamw", "adamw8bit") and g.source.program != "a1111"
    if adamw and g.source.complete and "training.weight_decay" not in g.fields:
        g.assume("weight_decay", DECAY_OF_ADAMW, "training.weight_decay", DECAY_OF_ADAMW)


def _argument(g: Gathered, name: str, key: str, value: object, taken: dict[str, object]) -> tuple[str, bool]:
    """Take an argument of the optimizer `name`; how it is written here, and whether it is taken."""
    value = literal(value) if isinstance(value, str) else value
    if key == "weight_decay":
        try:
            g.set("training.weight_decay", coerced("training.weight_decay", value))
            return g.show("training.weight_decay"), True
        except NoCounterpart:
            return f"{key} = {shown(value)}", False
    known = TAKEN.get(name, set())
    if key in known or (key in ("beta1", "beta2") and "betas" in known):
        taken[key] = value
        return f"optimizer_arguments.{key} = {shown(value)}", True
    return f"{key} = {shown(value)}", False


def losses(g: Gathered) -> None:
    """The loss, the delta of huber, and min-SNR."""
    kind = g.first("loss")
    if kind is not None:
        word = {"mse": "l2", "mae": "l1", "l2": "l2", "l1": "l1", "huber": "huber"}.get(str(kind.value).lower())
        if word is None:
            g.settle(kind, "left out", note=f"{shown(kind.value)} is not there; the loss is l2")
        else:
            g.set("training.loss", word, by=kind.name)
            g.settle(kind, "same" if word == kind.source.value else "changed", g.show("training.loss"))
    strengths = {word: g.first(part) for part, word in _STRENGTHS}
    used = [word for word, found in strengths.items() if found is not None and float(found.value) > 0]
    for word, found in strengths.items():
        if found is None:
            continue
        if word not in used:
            g.settle(found, "same", note="not used there, nor here")
        elif used[0] != word:
            g.settle(found, "left out", note=f"losses are not mixed here; it is {used[0]}")
        else:
            g.set("training.loss", word, by=found.name)
            g.settle(found, "changed", g.show("training.loss"), "one loss by name")
    delta = g.first("huber delta")
    if delta is not None:
        if g.fields.get("training.loss") != "huber":
            g.settle(delta, "same", note="used with the huber loss only, there and here")
        elif float(delta.value) > 0:
            g.set("training.huber_delta", float(delta.value), by=delta.name)
            g.settle(delta, "same", g.show("training.huber_delta"))
    weighing, gamma = g.first("min-SNR"), g.first("min-SNR gamma")
    if weighing is not None:
        min_snr = str(weighing.value).upper() == "MIN_SNR_GAMMA"
        constant = str(weighing.value).upper() in ("CONSTANT", "NONE")
        if min_snr:
            g.set("training.min_snr_gamma", float(gamma.value) if gamma else 5.0, by=weighing.name)
        g.settle(weighing, "same" if constant else "changed" if min_snr else "left out",
                 g.show("training.min_snr_gamma") if min_snr else "",
                 "" if constant or min_snr else "timesteps are weighed by min_snr_gamma alone")  # fmt: skip
        g.settle(gamma, "changed" if min_snr else "same", g.show("training.min_snr_gamma") if min_snr else "",
                 "" if min_snr else "used with min-SNR only")  # fmt: skip


_STRENGTHS: tuple[tuple[Part, str], ...] = (("mse", "l2"), ("mae", "l1"), ("huber", "huber"))


def noise(g: Gathered) -> None:
    """kohya's window has two kinds of noise, of which one is used; its scripts use what they are given."""
    kind, offset = g.first("noise kind"), g.first("noise offset")
    word = str(kind.value).strip().lower() if kind else ""
    g.settle(kind, "same" if word == "original" else "left out", "", "noise_offset is the only kind")
    for found in g.all_of("multires"):
        if word == "original":
            g.settle(found, "same", note=f"not used there either, since {kind.name if kind else ''} is Original")
        else:
            g.settle(found, "left out", note="noise is plain, with noise_offset as the only addition")
    if offset is None:
        return
    if word == "multires":
        g.settle(offset, "same", note="not used there, since the noise is Multires")
        return
    try:
        g.set("training.noise_offset", coerced("training.noise_offset", offset.value), by=offset.name)
        g.settle(offset, "same", g.show("training.noise_offset"))
    except NoCounterpart as error:
        g.settle(offset, "left out", note=str(error))


def precision(g: Gathered) -> None:
    """One number format for all frozen parts."""
    for found in g.all_of("precision"):
        if "training.precision" not in g.fields:
            g.set("training.precision", found.value, by=found.name)
        decided = g.fields["training.precision"]
        if found.value == decided:
            g.settle(found, "same" if found.source.value == decided else "changed", g.show("training.precision"),
                     "" if found.source.value == decided else "the format of all frozen parts")  # fmt: skip
        else:
            g.settle(
                found, "left out", note=f"all frozen parts have one format; {g.setters['training.precision']} decides"
            )


def saving(g: Gathered) -> None:
    """When it is saved and sampled, in the unit that the file gives, and how much is kept."""
    for what, every, unit in _EVERY:
        times = g.all_of(every)
        units = g.first(unit)
        for found in times:
            if found.counterpart.ours != f"{what}.every_epochs" or (units is None and g.source.program != "onetrainer"):
                _every(g, found, found.counterpart.ours)
                continue
            word = str(units.value).upper() if units else "MINUTE"
            name = {"EPOCH": f"{what}.every_epochs", "STEP": f"{what}.every_steps"}.get(word)
            if word == "NEVER":
                g.settle(found, "same", note="not used there, nor here")
            elif name is None:
                times_there = f"{shown(found.value)} {word.lower()}{'' if found.value == 1 else 's'}"
                why = f"every {times_there} there; here by {what}.every_steps"
                g.settle(found, "changed", note=f"{why}, every 100 steps unless set")
            else:
                _every(g, found, name)
        g.settle(units, "changed", note="steps and epochs have fields of their own")
    keep = g.first("keep steps")
    if keep is not None:
        every_steps = int(g.fields.get("save.every_steps", 0))
        if every_steps:
            g.set("save.keep", max(1, -(-int(keep.value) // every_steps)), by=keep.name)
            g.settle(keep, "changed", g.show("save.keep"), f"checkpoints, one every {every_steps} steps")
        else:
            g.settle(keep, "left out", note="nothing is saved by steps")


def _every(g: Gathered, found: Contribution, name: str) -> None:
    try:
        value = coerced(name, found.value)
    except NoCounterpart as error:
        g.settle(found, "left out", note=str(error))
        return
    if name in g.fields and g.fields[name] != value:
        g.settle(found, "changed", g.show(name), f"{g.setters[name]} decides")
        return
    g.set(name, value, by=found.name)
    g.settle(found, "same", g.show(name))


_EVERY: tuple[tuple[str, Part, Part], ...] = (
    ("save", "save every", "save unit"),
    ("save", "backup every", "backup unit"),
    ("sample", "sample every", "sample unit"),
)
