"""Setting a run up: models, vectors, latents, prompts, optimizer, and the checkpoint that it goes on from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ti_tui.dataset.crop import bucket_for
from ti_tui.dataset.masks import load_mask, weights_of
from ti_tui.dataset.scan import Picture, Scan
from ti_tui.dataset.templates import fill
from ti_tui.embeddings.files import Embedding
from ti_tui.run.hashes import weights_hash
from ti_tui.run.plan import Plan, make_plan
from ti_tui.run.problems import Problem
from ti_tui.setup.check import Checked, CheckFailed, check_run
from ti_tui.training import checkpoints, identity
from ti_tui.training.batches import Sample, Sampler
from ti_tui.training.checkpoints import CheckpointState
from ti_tui.training.compute_mode import compile_unet
from ti_tui.training.device import choose_device, hardware_of
from ti_tui.training.evaluation import EvalItem, Evaluator, fixed_set, losses, scene_effects
from ti_tui.training.frozen_parts import frozen_parts, open_previewer
from ti_tui.training.latents import Encoder, LatentCache, Latents, ToEncode
from ti_tui.training.models import ModelSource, download
from ti_tui.training.norms import Norms
from ti_tui.training.objective import NoiseSchedule
from ti_tui.training.optimizers import LossScale, make_optimizer, restore_optimizer
from ti_tui.training.previews import Previewer
from ti_tui.training.reporter import Reporter
from ti_tui.training.text import TextSide
from ti_tui.training.weights import ReadAhead

LatentsByPicture = dict[tuple[int, bool], Latents]
"""By index of the picture and whether it is mirrored."""


class StoppedWhileLoading(Exception):
    """A stop was asked before the first step; there is nothing to save."""


@dataclass
class Session:
    """Everything that the training loop works with.

    masks:   weights of the loss [1, h, w] by (picture, flipped) of the training set; empty where no masks are used.
    latents: by (picture, flipped) of the training set; regularisation: the same of the regularisation set.
    evaluator: asks the fixed set; None where no eval loss is wanted.
    channels_last: how pictures lie in memory on their way through the U-Net.
    step:    number of optimizer steps done.
    """

    checked: Checked
    accelerator: Accelerator
    device: torch.device
    plan: Plan
    unet: Any
    text: TextSide
    norms: Norms
    schedule: NoiseSchedule
    sampler: Sampler
    latents: LatentsByPicture
    regularisation: LatentsByPicture
    masks: dict[tuple[int, bool], Tensor]
    optimizer: torch.optim.Optimizer
    loss_scale: LossScale
    previewer: Previewer
    evaluator: Evaluator | None
    recipe: dict[str, Any]
    metadata: dict[str, str]
    channels_last: bool = False
    step: int = 0
    loss: float | None = None
    retry: dict[str, int] = field(default_factory=dict)
    prompts: dict[str, list[Tensor]] = field(default_factory=dict)

    @property
    def rows(self) -> list[nn.Parameter]:
        return self.text.rows

    def latents_of(self, sample: Sample) -> Latents:
        return (self.regularisation if sample.regularisation else self.latents)[sample.picture, sample.flipped]

    def mask_of(self, sample: Sample) -> Tensor | None:
        """Weights of a sample's loss [1, h, w]; all 1 for a regularisation picture; None where no masks are used."""
        if not self.masks:
            return None
        if sample.regularisation:
            return torch.ones_like(self.regularisation[sample.picture, sample.flipped].mean[:1])
        return self.masks[sample.picture, sample.flipped]

    def prompt_of(self, sample: Sample) -> str:
        """The prompt of a sample: its template, filled in with its picture's caption."""
        scan = self.checked.regularisation if sample.regularisation else self.checked.pictures
        assert scan is not None
        return fill(self.checked.templates[sample.template], scan.pictures[sample.picture].caption)

    def ids_of(self, prompt: str) -> list[Tensor]:
        """Ids of a prompt for each encoder, remembered."""
        if prompt not in self.prompts:
            self.prompts[prompt] = [ids.to(self.text.device) for ids in self.text.ids([prompt])]
        return self.prompts[prompt]

    def embedding(self) -> Embedding:
        """The vectors as they are now, with what is known about them."""
        rows = [row.detach().float().cpu().numpy() for row in self.rows]
        metadata = {**self.metadata, "step": str(self.step)}
        return Embedding.from_rows(rows, token=self.checked.run.embedding.token, step=self.step, metadata=metadata)

    def state(self, retry: dict[str, int]) -> CheckpointState:
        """The exact state after `step` steps; `retry` is the loop's own (see State)."""
        rows = [row.detach().cpu().clone() for row in self.rows]
        return CheckpointState(
            self.step,
            rows,
            self.optimizer.state_dict(),
            self.loss_scale.state(),
            self.loss,
            self.recipe,
            retry,
            {} if self.evaluator is None else self.evaluator.state(),
        )

    def restore(self, state: CheckpointState) -> bool:
        """Go on from `state`; whether the optimizer's moments could be taken over.

        The learning rate inside the optimizer's state is not used: the scheme sets it.
        """
        with torch.no_grad():
            for row, saved in zip(self.rows, state.rows, strict=True):
                row.copy_(saved)
        restored = restore_optimizer(self.optimizer, state.optimizer)
        self.loss_scale.restore(state.loss_scale)
        if self.evaluator is not None:
            self.evaluator.restore(state.evaluation)
        self.step, self.loss, self.retry = state.step, state.loss, state.retry
        return restored


def open_session(
    checked: Checked,
    accelerator: Accelerator,
    report: Reporter,
    stop_asked: Callable[[], bool],
    ahead: ReadAhead | None = None,
    *,
    read_only: bool = False,
) -> Session:
    """Load and prepare everything, in the order that needs the least memory: VAE, latents, then the rest.

    ahead:     the U-Net's weights, if they are being read already.
    read_only: nothing in the run's folder is touched, neither cached latents nor what a kill left of a checkpoint.
    Raises UserError for whatever keeps the run from starting.
    """
    run, folder = checked.run, checked.folder
    report.phase("loading", "checking the model")
    checked = _with_model(checked, report)
    facts, pictures = checked.facts, checked.pictures
    assert facts is not None and pictures is not None
    device = choose_device(accelerator, run.training.device)
    plan = _shared_plan(checked, accelerator, device)
    vae = folder.path(run.model.vae) if run.model.vae else None
    source = ModelSource(facts, vae, checked.tokenizers[0].end, ahead)

    latents, regularisation = _all_latents(
        checked, source, accelerator, plan, device, report, stop_asked, read_only=read_only
    )
    masks = _masks(checked, latents, facts.scale) if run.dataset.masks else {}
    text, unet = frozen_parts(checked, source, plan, device, report)
    rows = text.rows
    tables = [encoder.get_input_embeddings().weight for encoder in text.encoders]
    schedule = NoiseSchedule(source.noise_schedule().alphas_cumprod, source.ask_prediction(unet)).to(device)
    norms = Norms.of(run.embedding.norm, tables, rows)
    model_hash = weights_hash(facts.path)
    evaluator = None
    if plan.evaluation_steps:
        evaluator = _evaluator(checked, plan, latents, masks, text, unet, schedule, norms)
    session = Session(
        checked=checked,
        accelerator=accelerator,
        device=device,
        plan=plan,
        unet=unet,
        text=text,
        norms=norms,
        schedule=schedule,
        sampler=Sampler(
            repeats=[
                0 if place in checked.kept_back else picture.repeats for place, picture in enumerate(pictures.pictures)
            ],
            regularisation=len(checked.regularisation.pictures) if checked.regularisation else 0,
            templates=len(checked.templates),
            flip=run.dataset.flip,
            effective_batch=plan.effective_batch,
            training=run.training,
        ),
        latents=latents,
        regularisation=regularisation,
        masks=masks,
        optimizer=make_optimizer(rows, run.training, plan.scheme.rate_at(0)),
        loss_scale=LossScale(active=plan.precision == "fp16"),
        previewer=open_previewer(checked, source, plan, text, unet, schedule.prediction, stop_asked),
        evaluator=evaluator,
        recipe=identity.recipe(checked, model_hash, plan),
        metadata=identity.metadata(checked, plan, model_hash),
        channels_last=run.training.channels_last == "on",
    )
    source.close()
    compile_unet(unet, plan.compile)
    _go_on(session, report, mend=not read_only)
    return session


def _shared_plan(checked: Checked, accelerator: Accelerator, device: torch.device) -> Plan:
    """The plan, the same in every process: for the least card of all. An explicit batch holds for each process."""
    assert checked.facts is not None and checked.pictures is not None
    hardware = hardware_of(device)
    count = accelerator.num_processes
    if count > 1:
        mine = torch.tensor([[hardware.free_bytes, hardware.bf16]], device=accelerator.device, dtype=torch.int64)
        least = accelerator.gather(mine).amin(dim=0)
        hardware = replace(hardware, free_bytes=int(least[0]), bf16=bool(least[1]))
    plan = make_plan(checked.run, checked.facts, checked.images, hardware)
    if checked.run.training.accumulation == "auto":
        return plan
    return replace(plan, effective_batch=plan.effective_batch * count)


def _all_latents(
    checked: Checked,
    source: ModelSource,
    accelerator: Accelerator,
    plan: Plan,
    device: torch.device,
    report: Reporter,
    stop_asked: Callable[[], bool],
    *,
    read_only: bool,
) -> tuple[LatentsByPicture, LatentsByPicture]:
    """Latents of the training set and of the regularisation set; the VAE is gone from the device afterwards."""
    report.phase("caching", "encoding the pictures")
    facts, pictures, more = source.facts, checked.pictures, checked.regularisation
    assert pictures is not None
    path, part = (source.vae, "") if source.vae else (facts.path, "" if facts.single_file else "vae")
    on_disk = checked.run.training.cache_latents == "disk"
    place = checked.folder.cache if on_disk else None
    cache = LatentCache(place, weights_hash(path, part=part), read_only=read_only)

    def progress(done: int, total: int) -> None:
        report.progress(f"encoded {done} of {total} pictures")
        if stop_asked() and accelerator.num_processes == 1:
            raise StoppedWhileLoading

    # float32: it runs once, and half precision costs detail (and overflows in SDXL's VAE).
    encoder = Encoder(lambda: source.load_vae(torch.float32), device, tiled=plan.fit.tiled_caching, warn=report.warn)

    def latents_of(scan: Scan) -> LatentsByPicture:
        """Latents of every picture (and its mirror image), on the device: a few hundred KB each."""
        flips = [False, True] if checked.run.dataset.flip else [False]
        wanted = [(index, flipped) for index in range(len(scan.pictures)) for flipped in flips]
        items = [
            ToEncode(scan.pictures[index].path, _size_of(scan.pictures[index], checked), flipped)
            for index, flipped in wanted
        ]
        found = cache.get(items, encoder, progress=progress)
        return {key: Latents(one.mean.to(device), one.std.to(device)) for key, one in zip(wanted, found, strict=True)}

    with accelerator.main_process_first():
        try:
            return latents_of(pictures), latents_of(more) if more else {}
        finally:
            encoder.close()


def _with_model(checked: Checked, report: Reporter) -> Checked:
    """`checked` with the model found: a hub id that was not here is downloaded now."""
    if checked.facts is not None:
        return checked
    base = checked.run.model.base
    report.phase("loading", f"downloading {base} from the hub")
    download(base)
    again = check_run(checked.folder, decode=False)
    again.raise_errors()
    if again.facts is None:
        raise CheckFailed([Problem("error", f"{base} was downloaded but cannot be found", "model.base")])
    return again


def _masks(checked: Checked, latents: LatentsByPicture, scale: int) -> dict[tuple[int, bool], Tensor]:
    """Weights of the loss for every picture that has latents; 1 everywhere for one without a mask."""
    assert checked.pictures is not None
    found: dict[tuple[int, bool], Tensor] = {}
    for (index, flipped), one in latents.items():
        width, height = one.size
        mask = load_mask(checked.pictures.pictures[index].path, (width * scale, height * scale))
        if mask is None:
            found[index, flipped] = torch.ones((1, height, width), device=one.mean.device)
            continue
        weights = weights_of(mask, one.size, checked.run.dataset.mask_outside)
        placed = weights[:, ::-1].copy() if flipped else weights
        found[index, flipped] = torch.from_numpy(placed).unsqueeze(0).to(one.mean.device)
    return found


def _size_of(picture: Picture, checked: Checked) -> tuple[int, int]:
    dataset, facts = checked.run.dataset, checked.facts
    if not dataset.buckets or facts is None:
        return dataset.resolution, dataset.resolution
    return bucket_for(picture.width, picture.height, dataset.resolution, step=facts.multiple)


def _evaluator(
    checked: Checked,
    plan: Plan,
    latents: LatentsByPicture,
    masks: dict[tuple[int, bool], Tensor],
    text: TextSide,
    unet: Any,
    schedule: NoiseSchedule,
    norms: Norms,
) -> Evaluator:
    """Asks the fixed set of the eval loss: every picture with the first template, those that are kept back apart."""
    assert checked.pictures is not None and checked.facts is not None
    training, scale = checked.run.training, checked.facts.scale
    trained: list[EvalItem] = []
    held: list[EvalItem] = []
    for place, one in enumerate(checked.pictures.pictures):
        asked = (latents[place, False], fill(checked.templates[0], one.caption), masks.get((place, False)))
        (held if place in checked.kept_back else trained).append(asked)
    timesteps = (training.min_timestep, training.max_timestep)
    questions = fixed_set(trained, held, training.seed, count=plan.beside.asked, timesteps=timesteps)
    return Evaluator(
        questions,
        ask=lambda prompt, batch_size: losses(
            questions, unet, text, schedule, scale, batch_size=batch_size, prompt=prompt
        ),
        scenes=lambda batch_size: scene_effects(
            tuple(questions[0].latent.shape), unet, text, scale, training.seed, batch_size=batch_size
        ),
        batch_size=plan.batch_size,
        starts=[row.detach().clone() for row in text.rows],
        lengths=norms.lengths,
    )


def _go_on(session: Session, report: Reporter, *, mend: bool) -> None:
    """Restore the newest checkpoint, if there is one. Raises CheckFailed if it is of another shape."""
    if session.accelerator.is_main_process:
        state, notes = checkpoints.latest_state(session.checked.folder, mend=mend)
        for note in notes:
            report.warn(note)
        session.accelerator.wait_for_everyone()
    else:
        session.accelerator.wait_for_everyone()
        state, _ = checkpoints.latest_state(session.checked.folder, mend=mend)
    if state is None:
        return
    have, want = [tuple(row.shape) for row in state.rows], [tuple(row.shape) for row in session.rows]
    if have != want:
        widths = [" + ".join(str(shape[1]) for shape in shapes) for shapes in (have, want)]
        field = "embedding.vectors" if widths[0] == widths[1] else "model.base"
        has, wants = (
            f"{shapes[0][0]} vectors of width {width}" for shapes, width in zip((have, want), widths, strict=True)
        )
        message = f"the checkpoint at step {state.step} has {has}, the run {wants}"
        remedy = "Put the value back, or start a new run with `ti-tui init`."
        raise CheckFailed([Problem("error", message, field, remedy)])
    # What an older program did not write down is not known to have changed.
    changed = [key for key in session.recipe if key in state.recipe and state.recipe[key] != session.recipe[key]]
    if changed:
        report.warn(
            f"changed since step {state.step}: {', '.join(changed)}; the run goes on, but not as if uninterrupted"
        )
    if not session.restore(state):
        report.warn("the optimizer is another one than at the checkpoint: its moments start fresh")
    total = session.plan.total_steps
    if state.step > total:
        report.warn(f"the scheme ends at step {total}, before the checkpoint at {state.step}, whose vectors are kept")
