"""The receipt: all choices and decisions in a few lines, before anything is written or started."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ti_tui.dataset.crop_boxes import AUTO
from ti_tui.dataset.manifest import MaskOrigin
from ti_tui.dataset.scan import name_in
from ti_tui.formatting import figure, location, number, size, start_in_words
from ti_tui.run.hardware import GIB
from ti_tui.run.memory_fit import recompute_in_words
from ti_tui.run.plan import Plan
from ti_tui.run.recipe import RunFile
from ti_tui.setup.draft import Draft
from ti_tui.setup.findings import Findings

MASKS: dict[MaskOrigin, str] = {"file": "from files", "transparency": "from transparency", "face": "around faces"}


@dataclass(frozen=True)
class ReceiptLine:
    """One line of the receipt: what it is about, what was chosen, and why, or what that means."""

    title: str
    text: str
    why: str = ""


def receipt(draft: Draft, findings: Findings) -> list[ReceiptLine]:
    """The receipt of a draft whose run file is complete; shorter while the model is not downloaded yet."""
    run, plan, checked = findings.run, findings.plan, findings.checked
    if run is None or checked is None:
        return []
    facts = checked.facts
    start = start_in_words(run.embedding.init, run.embedding.start)
    model = facts.path.name if facts else run.model.base
    lines = [
        _pictures(draft, findings, run),
        *_crops(draft, findings),
        *_masks(findings, run),
        *_judging(findings, run),
        ReceiptLine("Embedding", f"{run.embedding.token} = {number(run.embedding.vectors, 'vector')} from {start}"),
        ReceiptLine("Model", model, facts.describe() if facts else "downloaded at the start"),
        _scheme(run, plan),
    ]
    if plan is not None:
        batch = f"{plan.batch_size} x {plan.accumulation}"
        device = f"{plan.hardware.name}, {plan.precision}, {run.training.optimizer}"
        lines += [
            ReceiptLine("Batch", batch, plan.reasons.get("step", "").partition(": ")[2]),
            _memory(plan),
            ReceiptLine("Device", device, plan.reasons.get("precision", "")),
            _saves(plan, run),
        ]
    folder = findings.folder
    if folder is not None:
        lines.append(ReceiptLine("Disk", f"about {size(findings.disk_bytes)}", f"in {location(folder.root)}"))
        result = folder.embedding(run.embedding.token, None)
        installed = f"then installed in {run.save.install_to}" if run.save.install_to else ""
        lines.append(ReceiptLine("Result", location(result), installed))
    return lines


def _pictures(draft: Draft, findings: Findings, run: RunFile) -> ReceiptLine:
    captions = findings.pictures.captions if findings.pictures else 0
    parts = [number(len(findings.images), "image"), f"{run.dataset.resolution} pixels"]
    if draft.choices.subfolders:
        parts.append("with sub-folders")
    if left_out := len(draft.choices.left_out):
        parts.append(f"{left_out} left out")
    why = f"{captions} with captions, template {run.dataset.template}"
    return ReceiptLine("Images", ", ".join(parts), why)


def _crops(draft: Draft, findings: Findings) -> list[ReceiptLine]:
    """How the photographs are cropped, and how many are used although refused; nothing if all of that is default."""
    found = findings.pictures
    names = {name_in(found.folder, image.path) for image in found.pictures} if found else set()
    choices = draft.choices
    modes = Counter(choice.mode for name, choice in choices.crops.items() if name in names)
    forced = names.intersection(choices.forced)
    if choices.crop_all == AUTO and not modes and not forced:
        return []
    others = "the others " if modes else ""
    parts = [f"{count} {'by hand' if mode == 'manual' else mode}" for mode, count in modes.most_common()]
    why = f"{number(len(forced), 'photograph')} used although refused" if forced else ""
    return [ReceiptLine("Crops", ", ".join([*parts, f"{others}{choices.crop_all.mode}"]), why)]


def _masks(findings: Findings, run: RunFile) -> list[ReceiptLine]:
    """What the masks are made from and what they do; nothing without masks."""
    if not findings.masks:
        return []
    text = ", ".join(f"{count} {MASKS[origin]}" for origin, count in Counter(findings.masks).most_common())
    outside = f"weight outside: {run.dataset.mask_outside:g}"
    return [ReceiptLine("Masks", text, outside if run.dataset.masks else "not used: Masks is off")]


def _judging(findings: Findings, run: RunFile) -> list[ReceiptLine]:
    """How it is judged whether the subject is learned; nothing without evaluations."""
    plan, checked = findings.plan, findings.checked
    if plan is None or checked is None or not plan.evaluation_steps:
        return []
    count = len(checked.held_out)
    held_out = f", {number(count, 'image')} held out" if count else ""
    ends = {"suggest": "says when it is learned", "stop": "ends the run when it is learned"}
    every = f"every {plan.evaluation_steps} steps{held_out}"
    return [ReceiptLine("Eval loss", every, ends.get(run.evaluation.early_stop, ""))]


def _scheme(run: RunFile, plan: Plan | None) -> ReceiptLine:
    scheme = run.scheme.scheme()
    first, last = scheme.segments[0].learning_rate, scheme.segments[-1].learning_rate
    rates = f"{first:g} to {last:g}" if first != last else f"{first:g}"
    epochs = f" = {figure(scheme.total_steps / plan.epoch_steps, 4)} epochs" if plan else ""
    shape = f", {scheme.shape}" if scheme.shape != "segments" else ""
    warm = f", warm-up {scheme.warmup_steps} steps" if scheme.warmup_steps else ""
    steps = number(scheme.total_steps, "step")
    return ReceiptLine("Scheme", f"{steps}{epochs}", f"rate {rates}{shape}{warm}, in one run")


def _memory(plan: Plan) -> ReceiptLine:
    free, total = plan.hardware.free_bytes / GIB, plan.hardware.total_bytes / GIB
    where = "card" if plan.hardware.kind == "cuda" else "machine's memory"
    if plan.memory is None:
        return ReceiptLine("Memory", f"{free:.1f} of {total:.1f} GiB free", plan.reasons.get("memory", ""))
    how = recompute_in_words(plan.mode)
    if plan.mode.bits == 8:
        how += ", 8-bit U-Net"
    need = plan.memory.training / GIB
    fits = how if need <= free else "more than is free: it may not fit"
    return ReceiptLine(
        "Memory", f"{need:.1f} of {free:.1f} GiB free (predicted)", f"{fits}; the {where} has {total:.1f}"
    )


def _saves(plan: Plan, run: RunFile) -> ReceiptLine:
    samples = plan.samples() * len(run.sample.prompts)
    text = f"{number(plan.saves(), 'checkpoint')}, {number(samples, 'sample')}"
    every = [f"save every {plan.save_steps}" if plan.save_steps else "save at the end"]
    if plan.sample_steps:
        every.append(f"sample every {plan.sample_steps} steps")
    return ReceiptLine("Saves", text, ", ".join(every))
