"""Opens a run for training: model, vectors, latents, eval set, optimizer, and the checkpoint to resume from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from accelerate import Accelerator
from torch import Tensor

from ti_tui.dataset.crop import bucket_for
from ti_tui.dataset.masks import load_mask, weights_of
from ti_tui.dataset.scan import Scan, TrainingImage
from ti_tui.dataset.templates import fill
from ti_tui.run.hashes import weights_hash
from ti_tui.run.plan import Plan, make_plan
from ti_tui.run.problems import Problem
from ti_tui.setup.check import Checked, CheckFailed, check_run
from ti_tui.training import checkpoints, identity
from ti_tui.training.batches import ImageOrder
from ti_tui.training.compute_mode import compile_unet
from ti_tui.training.data import Data, LatentsByImage
from ti_tui.training.device import choose_device, hardware_of
from ti_tui.training.evaluation import EvalSource, Evaluator, eval_items, losses, scene_effects
from ti_tui.training.latents import Encoder, LatentCache, Latents, ToEncode
from ti_tui.training.models import ModelSource, download
from ti_tui.training.networks import load_networks, make_renderer
from ti_tui.training.norms import Norms
from ti_tui.training.objective import NoiseSchedule
from ti_tui.training.optimizers import LossScale, make_optimizer
from ti_tui.training.processes import Processes
from ti_tui.training.rate_changes import keep_trained
from ti_tui.training.reporter import Reporter
from ti_tui.training.session import Model, Progress, Session
from ti_tui.training.weights import ReadAhead


class StoppedWhileLoading(Exception):
    """A stop was requested before the first step; there is nothing to save."""


def open_session(
    checked: Checked,
    accelerator: Accelerator,
    report: Reporter,
    stop_requested: Callable[[], bool],
    ahead: ReadAhead | None = None,
    *,
    read_only: bool = False,
) -> Session:
    """Load and prepare everything, in the order that needs the least memory: VAE and latents first, then the rest.

    ahead:     the U-Net's weights, if they are already being read.
    read_only: write nothing into the run folder: neither latents nor repairs of what a kill left half-written.
    Raises UserError if the run cannot start.
    """
    run, folder = checked.run, checked.folder
    report.phase("loading", "checking the model")
    checked = _with_model(checked, report)
    facts, pictures = checked.facts, checked.pictures
    assert facts is not None and pictures is not None
    device = choose_device(accelerator, run.training.device)
    processes = Processes(accelerator, device)
    plan = _shared_plan(checked, accelerator, device)
    vae = folder.path(run.model.vae) if run.model.vae else None
    source = ModelSource(facts, vae, checked.tokenizers[0].end, ahead)

    latents, regularisation = _all_latents(
        checked, source, accelerator, plan, device, report, stop_requested, read_only=read_only
    )
    masks = _masks(checked, latents, facts.scale) if run.dataset.masks else {}
    text, unet = load_networks(checked, source, plan, device, report)
    prediction = source.ask_prediction(unet)
    for doubt in source.facts.truth.doubts:
        if doubt not in facts.truth.doubts:
            report.warn(doubt)
    checked = replace(checked, facts=source.facts)
    tables = [encoder.get_input_embeddings().weight for encoder in text.encoders]
    model = Model(
        unet,
        text,
        NoiseSchedule(source.noise_schedule().alphas_cumprod, prediction).to(device),
        Norms.of(run.embedding.norm, tables, text.rows),
        device,
        channels_last=run.training.channels_last == "on",
    )
    data = Data(
        pictures,
        checked.regularisation,
        checked.templates,
        _image_order(checked, plan),
        latents,
        regularisation,
        masks,
        text,
        device,
        facts.scale,
        noise_offset=run.training.noise_offset,
        process=(processes.index, processes.count),
    )
    model_hash = weights_hash(facts.path)
    session = Session(
        checked=checked,
        plan=plan,
        processes=processes,
        model=model,
        data=data,
        progress=Progress(
            make_optimizer(text.rows, run.training, plan.scheme.rate_at(0)),
            LossScale(active=plan.precision == "fp16"),
        ),
        renderer=make_renderer(checked, source, plan, text, unet, model.schedule.prediction, stop_requested),
        evaluator=_evaluator(checked, plan, model, data) if plan.evaluation_steps else None,
        recipe=identity.recipe(checked, model_hash, plan),
        metadata=identity.metadata(checked, plan, model_hash),
    )
    source.close()
    compile_unet(unet, plan.compile)
    _resume(session, report, repair=not read_only)
    return session


def _shared_plan(checked: Checked, accelerator: Accelerator, device: torch.device) -> Plan:
    """The plan, the same in every process: for the smallest card. An explicit batch size is that of each process."""
    assert checked.facts is not None and checked.pictures is not None
    hardware = hardware_of(device)
    count = accelerator.num_processes
    if count > 1:
        mine = torch.tensor([[hardware.free_bytes, hardware.bf16]], device=accelerator.device, dtype=torch.int64)
        smallest = accelerator.gather(mine).amin(dim=0)
        hardware = replace(hardware, free_bytes=int(smallest[0]), bf16=bool(smallest[1]))
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
    stop_requested: Callable[[], bool],
    *,
    read_only: bool,
) -> tuple[LatentsByImage, LatentsByImage]:
    """Latents of the training set and of the regularisation set; the VAE leaves the device afterwards."""
    report.phase("caching", "encoding the images")
    facts, pictures, more = source.facts, checked.pictures, checked.regularisation
    assert pictures is not None
    path, part = (source.vae, "") if source.vae else (facts.path, "" if facts.single_file else "vae")
    on_disk = checked.run.training.cache_latents == "disk"
    place = checked.folder.cache if on_disk else None
    cache = LatentCache(place, weights_hash(path, part=part), read_only=read_only)

    def progress(done: int, total: int) -> None:
        report.progress(f"encoded {done} of {total} images")
        if stop_requested() and accelerator.num_processes == 1:
            raise StoppedWhileLoading

    # float32: the VAE runs once, and half precision loses detail (and overflows in SDXL's VAE).
    encoder = Encoder(lambda: source.load_vae(torch.float32), device, tiled=plan.fit.tiled_caching, warn=report.warn)

    def latents_of(scan: Scan) -> LatentsByImage:
        """Latents of every image (and its mirror image), on the device: a few hundred KB each."""
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
    """`checked` with its model, which is downloaded now if it is a hub id that is not in the local cache."""
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


def _masks(checked: Checked, latents: LatentsByImage, scale: int) -> dict[tuple[int, bool], Tensor]:
    """Weights of the loss for every image that has latents; 1 everywhere for an image without a mask."""
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


def _size_of(image: TrainingImage, checked: Checked) -> tuple[int, int]:
    dataset, facts = checked.run.dataset, checked.facts
    if not dataset.buckets or facts is None:
        return dataset.resolution, dataset.resolution
    return bucket_for(image.width, image.height, dataset.resolution, step=facts.multiple)


def _image_order(checked: Checked, plan: Plan) -> ImageOrder:
    run, pictures = checked.run, checked.pictures
    assert pictures is not None
    return ImageOrder(
        repeats=[0 if place in checked.held_out else image.repeats for place, image in enumerate(pictures.pictures)],
        regularisation=len(checked.regularisation.pictures) if checked.regularisation else 0,
        templates=len(checked.templates),
        flip=run.dataset.flip,
        effective_batch=plan.effective_batch,
        training=run.training,
    )


def _evaluator(checked: Checked, plan: Plan, model: Model, data: Data) -> Evaluator:
    """Makes the evaluator, with an eval set of every image with the first template; held-out images are separate."""
    training = checked.run.training
    trained: list[EvalSource] = []
    held: list[EvalSource] = []
    for place, one in enumerate(data.images.pictures):
        item = (data.latents[place, False], fill(data.templates[0], one.caption), data.masks.get((place, False)))
        (held if place in checked.held_out else trained).append(item)
    timesteps = (training.min_timestep, training.max_timestep)
    items = eval_items(trained, held, training.seed, count=plan.overhead.eval_items, timesteps=timesteps)
    return Evaluator(
        items,
        losses_of=lambda prompt, batch_size: losses(
            items, model.unet, model.text, model.schedule, data.scale, batch_size=batch_size, prompt=prompt
        ),
        effects_of_scenes=lambda batch_size: scene_effects(
            tuple(items[0].latent.shape),
            model.unet,
            model.text,
            data.scale,
            training.seed,
            batch_size=batch_size,
        ),
        batch_size=plan.batch_size,
        initial=[row.detach().clone() for row in model.rows],
        median_norms=model.norms.median_norms,
    )


def _resume(session: Session, report: Reporter, *, repair: bool) -> None:
    """Restore the newest checkpoint, if there is one. Raises CheckFailed if its vectors have a different shape."""
    if session.processes.is_main:
        state, notes = checkpoints.latest_state(session.checked.folder, repair=repair)
        for note in notes:
            report.warn(note)
        session.processes.wait()
    else:
        session.processes.wait()
        state, _ = checkpoints.latest_state(session.checked.folder, repair=repair)
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
        remedy = "Restore the old value, or start a new run with `ti-tui init`."
        raise CheckFailed([Problem("error", message, field, remedy)])
    # Settings that an older version did not record are not known to have changed.
    changed = [key for key in session.recipe if key in state.recipe and state.recipe[key] != session.recipe[key]]
    if changed:
        report.warn(
            f"changed since step {state.step}: {', '.join(changed)}; the run continues, but not as if uninterrupted"
        )
    if not session.restore(state):
        report.warn("the optimizer is not the one of the checkpoint: its moments start from zero")
    keep_trained(session, state, report, read_only=not repair)
    total = session.plan.total_steps
    if state.step > total:
        report.warn(
            f"the scheme ends at step {total}, before the checkpoint at step {state.step}, whose vectors are kept"
        )
