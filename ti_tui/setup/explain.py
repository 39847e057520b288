"""The note to the right of a field: what its value means for this draft on this machine."""

from __future__ import annotations

from typing import Any

from ti_tui.dataset.templates import BUILT_IN, FILEWORDS, NAME, fill
from ti_tui.formatting import figure, number, size
from ti_tui.run.hardware import GIB
from ti_tui.run.memory_fit import recompute_in_words
from ti_tui.run.plan import Plan
from ti_tui.setup.check import Checked
from ti_tui.setup.draft import Draft
from ti_tui.setup.findings import Findings

REASONS = {
    "training.precision": "precision",
    "evaluation.every_steps": "eval loss",
    "training.recompute": "memory",
    "training.lean_backward": "backward",
    "training.quantise": "U-Net",
    "training.text_encoder": "text encoder",
    "training.compile": "compile",
}
"""Which of the plan's reasons belongs to a field."""


def note(name: str, draft: Draft, findings: Findings) -> str:
    """One line about the current value of the field `name`, or "". Never raises for a draft's content."""
    value: Any = draft.value(name) if "." in name else None
    checked, plan = findings.checked, findings.plan
    match name:
        case "model.base":
            return checked.facts.describe() if checked and checked.facts else ""
        case "embedding.token":
            return "not a word of the model" if checked and value else ""
        case "embedding.init":
            return _init(str(value or ""), checked)
        case "embedding.start":
            return _start(str(value), draft, checked)
        case "embedding.vectors":
            room = checked.tokenizers[0].room if checked and checked.tokenizers else 75
            return f"{max(0, room - int(value))} of {room} places left for the prompt"
        case "dataset.template":
            if value == "captions" and name not in draft.fields:
                return "proposed, since there are captions"
            return _template(str(value), checked)
        case "dataset.resolution" if plan:
            return _resolution(int(value), findings)
        case "training.batch_size" | "training.accumulation" if plan:
            return _batch(name, plan)
        case "save.every_steps" if plan:
            saves = plan.saves()
            width = sum(checked.facts.widths) if checked and checked.facts else 768
            each = size(int(draft.value("embedding.vectors")) * width * 4 + 1000)
            return f"{_epochs(int(value), plan)}{number(saves, 'file')} of {each}"
        case "save.every_epochs" | "sample.every_epochs" if plan:
            return f"= {value * plan.epoch_steps:g} steps" if value else ""
        case "sample.every_steps" if plan:
            count = plan.samples() * len(draft.value("sample.prompts"))
            return f"{_epochs(int(value), plan)}{number(count, 'sample')}"
        case "evaluation.hold_out" if checked and checked.pictures:
            return f"{len(checked.held_out)} of {number(len(checked.pictures.pictures), 'image')} held out"
        case _ if plan and name in REASONS:
            return plan.reasons.get(REASONS[name], "")
        case "training.device" if findings.hardware:
            return findings.hardware.describe()
    return ""


def examples(template: str, checked: Checked | None, draft: Draft, caption: str, *, most: int = 3) -> list[str]:
    """The first prompts that the template makes from `caption`, as the model will read them."""
    token = str(draft.value("embedding.token") or NAME)
    return [fill(pattern, caption).replace(NAME, token) for pattern in _patterns(template, checked)[:most]]


def _init(text: str, checked: Checked | None) -> str:
    if not text:
        return "slower, for styles"
    if checked is None or not checked.tokenizers:
        return ""
    if checked.init is not None:
        return f"an embedding with {number(checked.init.count, 'vector')}"
    return number(len(checked.tokenizers[0].words(text)), "token")


def _start(value: str, draft: Draft, checked: Checked | None) -> str:
    if checked is None or not checked.tokenizers or checked.init is not None:
        return ""
    tokens = len(checked.tokenizers[0].words(str(draft.value("embedding.init") or "")))
    if not tokens:
        return ""
    if value == "cross":
        free = draft.value("embedding.norm") == "free"
        return "a norm many times that of a word" if free else "its direction, with the norm of a word"
    if tokens == 1:
        return "all vectors are copies of the one token"
    return f"every vector is {f'the mean of the {tokens} tokens' if value == 'mean' else f'one of {tokens} tokens'}"


def _patterns(template: str, checked: Checked | None) -> tuple[str, ...]:
    return checked.templates if checked and checked.templates else BUILT_IN.get(template, ())


def _template(value: str, checked: Checked | None) -> str:
    patterns = _patterns(value, checked)
    if not patterns:
        return ""
    uses = ", uses the captions" if any(FILEWORDS in pattern for pattern in patterns) else ""
    return f'{number(len(patterns), "phrase")}, "{patterns[0]}"{uses}'


def _resolution(value: int, findings: Findings) -> str:
    if findings.pictures is None:
        return ""
    small = sum(min(image.width, image.height) < value for image in findings.images)
    return f"{number(small, 'photograph')} to be enlarged" if small else "no photograph is enlarged"


def _batch(name: str, plan: Plan) -> str:
    if name == "training.batch_size":
        limit = plan.hardware.free_bytes / GIB
        if plan.memory is None:
            return f"= {plan.batch_size}"
        how = recompute_in_words(plan.mode)
        return f"= {plan.batch_size}; {plan.memory.training / GIB:.1f} of {limit:.1f} GiB predicted, {how}"
    last = plan.effective_batch - plan.batch_size * (plan.accumulation - 1)
    each = f"{plan.batch_size} x {plan.accumulation}"
    if plan.accumulation > 1 and last != plan.batch_size:
        each = f"{plan.batch_size} x {plan.accumulation - 1} + {last}"
    if plan.effective_batch == plan.images:
        return f"= {plan.accumulation}; {each} = {plan.effective_batch}, each image once"
    return f"= {plan.accumulation}; {each} = {plan.effective_batch} of {plan.images} images"


def _epochs(steps: int, plan: Plan) -> str:
    if not steps:
        return ""
    return f"= {figure(steps / plan.epoch_steps)} epochs, "
