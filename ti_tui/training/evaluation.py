"""The eval loss: a fixed set of (image, noise, timestep), so that its value can be compared from step to step."""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ti_tui.embeddings.health import effective_rank
from ti_tui.run.evaluations import BANDS, Evaluation
from ti_tui.run.overhead import FOLLOWING_EVERY
from ti_tui.run.verdicts import Verdict, judge
from ti_tui.training.latents import Latents
from ti_tui.training.objective import NoiseSchedule, draw
from ti_tui.training.placeholder import set_rows
from ti_tui.training.randomness import seed_for
from ti_tui.training.sample_images import conditions_for
from ti_tui.training.text import Context, TextSide

TIMESTEPS = 1000
HELD_SHARE = 3
"""One item in this many has a held-out image, if there are any."""
LEAST_LOSS = 1e-12
SUBJECT = "a photo of a [name]"
SCENES = ("on a white background", "on a black background", "on a blue background", "on a green background")
"""Scenes that every model knows, and that look different from each other."""
SCENE_TIMESTEPS = (900, 600)
"""At these timesteps the surroundings in an image are decided."""

EvalSource = tuple[Latents, str, Tensor | None]
"""An image of the eval set: its latents, its prompt, the weights of its loss [1, h, w]."""


@dataclass(frozen=True)
class EvalItem:
    """One item of the eval set: an image's mean latent and a noise [4, h, w], a timestep, a prompt, weights [1, h, w].

    held: whether it is a held-out image.
    """

    latent: Tensor
    noise: Tensor
    timestep: int
    prompt: str
    weights: Tensor | None = None
    held: bool = False


def eval_items(
    trained: Sequence[EvalSource], held: Sequence[EvalSource], seed: int, *, count: int, timesteps: tuple[int, int]
) -> list[EvalItem]:
    """An eval set of `count` items, some of them with held-out images; the same seed gives the same set.

    timesteps: the range [low, high) that is trained. Both trained and held-out items are spread evenly over it.
    """
    held_count = count // HELD_SHARE if held else 0
    return [
        *_part(trained, seed_for(seed, "evaluation"), count - held_count, timesteps, held=False),
        *_part(held, seed_for(seed, "evaluation held"), held_count, timesteps, held=True),
    ]


def _part(
    sources: Sequence[EvalSource], seed: int, count: int, timesteps: tuple[int, int], *, held: bool
) -> Iterator[EvalItem]:
    low, high = timesteps
    # A stride near the golden section, coprime to the count: each image gets both low and high timesteps.
    stride = next((s for s in range(max(1, round(count * 0.618)), count) if math.gcd(s, count) == 1), 1)
    for index in range(count):
        latents, prompt, weights = sources[index % len(sources)]
        noise = draw(seed_for(seed, "noise", index), tuple(latents.mean.shape), 0.0).noise
        place = (index * stride % count + 0.5) / count
        timestep = int(low + place * (high - low))
        yield EvalItem(latents.mean, noise.to(latents.mean.device), timestep, prompt, weights, held)


@torch.no_grad()
def losses(
    items: Sequence[EvalItem],
    unet: Any,
    text: TextSide,
    schedule: NoiseSchedule,
    scale: int,
    *,
    batch_size: int = 1,
    prompt: str | None = None,
) -> list[float]:
    """Mean squared error of each item, weighted by masks only, in batches of at most `batch_size` of one image size.

    prompt: used instead of the items' own prompts, such as "" for the error without any prompt.
    """
    found = [0.0] * len(items)
    contexts = {
        one: text.encode(text.ids([one]))
        for one in dict.fromkeys(item.prompt if prompt is None else prompt for item in items)
    }
    for places in _batches(items, batch_size):
        batch = [items[place] for place in places]
        latent = torch.stack([one.latent for one in batch])
        noise = torch.stack([one.noise for one in batch])
        timesteps = torch.tensor([one.timestep for one in batch], device=latent.device)
        size = (latent.shape[3] * scale, latent.shape[2] * scale)
        words = [contexts[one.prompt if prompt is None else prompt] for one in batch]
        context = Context.joined(words)
        conditions = conditions_for(context, [size] * len(batch), unet)
        prediction = unet(schedule.noisy(latent, noise, timesteps).to(unet.dtype), timesteps, **conditions).sample
        error = (prediction.float() - schedule.target(latent, noise, timesteps)).square()
        weights = [one.weights for one in batch if one.weights is not None]
        if weights:
            error = error * torch.stack(weights)
        for place, loss in zip(places, error.mean(dim=(1, 2, 3)).tolist(), strict=True):
            found[place] = loss
    return found


@torch.no_grad()
def scene_effects(
    shape: tuple[int, ...], unet: Any, text: TextSide, scale: int, seed: int, *, batch_size: int = 1
) -> list[float]:
    """How much each scene in a prompt changes the U-Net's prediction for pure noise (RMS, by timestep and scene).

    Vectors that drown the rest of a prompt make it small: samples then ignore the prompt's other words. The loss does
    not show this, because the images of a training set often share their surroundings. On the demo model the mean,
    relative to that of the initial vectors, separates embeddings that keep the prompt's background (0.72 and more)
    from those that lose it in every second sample (0.64 and less), without drawing a single one (docs/loss.md).

    shape: of a latent [4, h, w].
    """
    noise = draw(seed_for(seed, "scenes"), shape, 0.0).noise.to(unet.device)
    context = text.encode(text.ids([SUBJECT, *(f"{SUBJECT} {scene}" for scene in SCENES)]))
    size = (shape[2] * scale, shape[1] * scale)
    effects = []
    for timestep in SCENE_TIMESTEPS:
        predictions = []
        for places in torch.arange(len(SCENES) + 1, device=context.hidden.device).split(batch_size):
            part = context.rows(places)
            conditions = conditions_for(part, [size] * len(places), unet)
            timesteps = torch.full((len(places),), timestep, device=noise.device)
            predictions.append(unet(noise.expand(len(places), *shape).to(unet.dtype), timesteps, **conditions).sample)
        alone, *others = torch.cat(predictions).float()
        effects += [float((other - alone).square().mean().sqrt()) for other in others]
    return effects


def _batches(items: Sequence[EvalItem], batch_size: int) -> Iterator[list[int]]:
    """Indices of the items in batches of at most `batch_size`, each with images of one size."""
    by_size: dict[tuple[int, ...], list[int]] = {}
    for place, one in enumerate(items):
        by_size.setdefault(tuple(one.latent.shape), []).append(place)
    for places in by_size.values():
        for start in range(0, len(places), batch_size):
            yield places[start : start + batch_size]


def items_hash(items: Sequence[EvalItem]) -> str:
    """A hash of an eval set: only losses on the same items can be compared."""
    total = hashlib.sha256()
    for one in items:
        total.update(f"{one.timestep}|{one.prompt}|{one.held}|{tuple(one.latent.shape)}\n".encode())
        total.update(one.latent.detach().float().cpu().numpy().tobytes()[:256])
    return total.hexdigest()[:16]


@dataclass
class Evaluator:
    """Measures the eval loss of the vectors, and keeps the results: the history that verdicts are made from.

    losses_of:         (prompt or None, batch size) -> the loss of each item, with that prompt or with the items' own.
    effects_of_scenes: (batch size) -> scene_effects().
    initial:           the initial vectors for each text encoder.
    median_norms:      the median norm in each text encoder's vocabulary.
    history:           all evaluations so far, by ascending step.
    verdict:           the verdict on them.
    ended_for:         the verdicts that have already ended the run.
    """

    items: list[EvalItem]
    losses_of: Callable[[str | None, int], list[float]]
    effects_of_scenes: Callable[[int], list[float]]
    batch_size: int
    initial: list[Tensor]
    median_norms: tuple[float, ...]
    verdict: Verdict | None = None
    ended_for: list[str] = field(default_factory=list)
    history: list[Evaluation] = field(default_factory=list)
    _at_start: list[float] = field(default_factory=list)
    _empty: list[float] = field(default_factory=list)
    _scenes_at_start: list[float] = field(default_factory=list)

    def evaluate(self, step: int, rows: Sequence[Tensor]) -> Evaluation:
        """Evaluate `rows`, as they are after `step` steps, and add the result to the history."""
        if not self._at_start:
            self._begin(rows)
        found = self._at_start if step == 0 else self.losses_of(None, self.batch_size)
        self.forget_from(step)
        follows = None
        if len(self.history) % FOLLOWING_EVERY == 0:
            effects = self._scenes_at_start if step == 0 else self.effects_of_scenes(self.batch_size)
            ratios = [now / max(then, 1e-12) for now, then in zip(effects, self._scenes_at_start, strict=True)]
            follows = statistics.fmean(ratios)
        evaluation = replace(self._judged(step, found, rows), follows=follows).rounded()
        self.history.append(evaluation)
        return evaluation

    def judge(self, start: str) -> Verdict | None:
        """The verdict on the history; `start` names what the vectors started from, for its text."""
        self.verdict = judge(self.history, start, self.verdict)
        return self.verdict

    def forget_from(self, step: int) -> None:
        """Drop the evaluations from `step` on, because these steps were undone."""
        self.history = [one for one in self.history if one.step < step]
        if self.verdict is not None and self.verdict.step >= step:
            self.verdict = None

    def use_less_memory(self) -> None:
        """From now on evaluate one item at a time."""
        self.batch_size = 1

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint: a resumed run has the same history, and compares with the same initial losses."""
        return {
            "questions": items_hash(self.items),
            "start": self._at_start,
            "empty": self._empty,
            "scenes": self._scenes_at_start,
            "history": [one.values() for one in self.history],
            "ended_for": self.ended_for,
            "verdict": None if self.verdict is None else self.verdict.values(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore `state`, unless it belongs to a different eval set."""
        # Checkpoints of older versions have no state.
        if state.get("questions") != items_hash(self.items):
            return
        self._at_start, self._empty = list(state["start"]), list(state["empty"])
        self._scenes_at_start = list(state["scenes"])
        known = (Evaluation.from_values(values) for values in state["history"])
        self.history = [one for one in known if one is not None]
        self.ended_for = list(state["ended_for"])
        verdict = state["verdict"]
        # Older checkpoints store the verdict as "name".
        self.verdict = None if verdict is None else Verdict.from_values({"verdict": verdict.get("name"), **verdict})

    def _begin(self, rows: Sequence[Tensor]) -> None:
        """Measure what is compared with: the initial vectors, and an empty prompt."""
        # In a run that resumes from an older version's checkpoint the rows are no longer the initial ones.
        now = [row.detach().clone() for row in rows]
        set_rows(rows, self.initial)
        try:
            self._at_start, self._empty = self.losses_of(None, self.batch_size), self.losses_of("", self.batch_size)
            self._scenes_at_start = self.effects_of_scenes(self.batch_size)
        finally:
            set_rows(rows, now)

    def _judged(self, step: int, found: list[float], rows: Sequence[Tensor]) -> Evaluation:
        own = [place for place, one in enumerate(self.items) if not one.held]
        held_out = [place for place, one in enumerate(self.items) if one.held]
        gain, error = _gain([(found[place], self._at_start[place]) for place in own])
        held, held_error = _gain([(found[place], self._at_start[place]) for place in held_out])
        relative_norms = [
            row.detach().float().norm(dim=1).cpu() / max(median, 1e-12)
            for row, median in zip(rows, self.median_norms, strict=True)
        ]
        norms = torch.cat(relative_norms)
        return Evaluation(
            step,
            loss=statistics.fmean(found[place] for place in own),
            gain=gain,
            gain_error=error,
            held_gain=held,
            held_gain_error=held_error,
            bands=self._bands(found),
            length=float(norms.median()),
            longest=float(norms.max()),
            moved=self._moved(rows),
            rank=effective_rank((rows[0].detach() - self.initial[0]).float().cpu().numpy()),
        )

    def _bands(self, found: list[float]) -> tuple[float | None, ...]:
        bands: list[float | None] = []
        for band in range(BANDS):
            pairs = [
                (found[place], self._empty[place])
                for place, one in enumerate(self.items)
                if one.timestep * BANDS // TIMESTEPS == band
            ]
            gain, _ = _gain(pairs)
            bands.append(None if gain is None else 1 - gain)
        return tuple(bands)

    def _moved(self, rows: Sequence[Tensor]) -> float:
        pairs = list(zip(rows, self.initial, strict=True))
        distance = sum(float((row.detach() - start).square().sum()) for row, start in pairs)
        return math.sqrt(distance / max(sum(float(start.square().sum()) for _, start in pairs), 1e-24))


def _gain(pairs: Sequence[tuple[float, float]]) -> tuple[float | None, float | None]:
    """(1 - geometric mean of the ratios, its standard error) of pairs (loss, loss to compare with).

    (None, None) if a loss is not finite: the next step then finds the same and is undone.
    """
    logs = [math.log(max(loss, LEAST_LOSS) / max(other, LEAST_LOSS)) for loss, other in pairs]
    if not logs or not all(map(math.isfinite, logs)):
        return None, None
    mean = math.exp(statistics.fmean(logs))
    error = statistics.stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else None
    # The standard error of x is that of log x, times x.
    return 1 - mean, None if error is None else mean * error
