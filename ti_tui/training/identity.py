"""What identifies a run: hashes of its images and model, for its checkpoints and for the embedding's metadata."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ti_tui import __version__
from ti_tui.dataset.masks import mask_file
from ti_tui.embeddings.files import RUN_ID
from ti_tui.run.hashes import file_hash
from ti_tui.run.plan import Plan
from ti_tui.run.recipe import RunFile
from ti_tui.run.scheme import format_scheme
from ti_tui.setup.check import Checked


def recipe(checked: Checked, model_hash: str, plan: Plan) -> dict[str, Any]:
    """The settings that must be unchanged when a run is resumed, for the result to be exact."""
    run = checked.run
    training = run.training.model_dump(
        exclude={
            "batch_size",
            "accumulation",
            "device",
            "attention",
            "recompute",
            "lean_backward",
            "quantise",
            "text_encoder",
            "channels_last",
            "cache_latents",
            "vram_limit_gib",
            "compile",
        }
    )
    return {
        "model": model_hash,
        "prediction": checked.facts.prediction if checked.facts else None,
        "vae": run.model.vae,
        "clip_skip": run.model.clip_skip,
        "dataset": dataset_hash(checked),
        "resolution": run.dataset.resolution,
        "flip": run.dataset.flip,
        "buckets": run.dataset.buckets,
        "masks": [run.dataset.masks, run.dataset.mask_outside],
        "templates": list(checked.templates),
        "token": run.embedding.token,
        "norm": run.embedding.norm,
        "effective_batch": plan.effective_batch,
        # What the plan decided, not the setting: of all ways to save memory, only this one changes the numbers.
        "unet_bits": plan.mode.bits,
        "training": training,
    }


def metadata(checked: Checked, plan: Plan, model_hash: str) -> dict[str, str]:
    """The metadata of the embedding file. No dates, so that equal runs give equal files.

    run_id: tells this run from every other; a run that resumes keeps the one in its checkpoint.
    """
    run = checked.run
    assert checked.facts is not None
    dataset = dataset_hash(checked)
    return {
        RUN_ID: _run_id(run, model_hash, dataset),
        "base_model": Path(run.model.base).name,
        "base_model_sha256": model_hash,
        "base_model_family": checked.facts.family,
        "dataset_sha256": dataset,
        "images": str(plan.images),
        "init": run.embedding.init,
        **({"start": run.embedding.start} if run.embedding.start != "words" else {}),
        "scheme": format_scheme(plan.scheme.segments),
        "seed": str(run.training.seed),
        "modelspec.implementation": "ti_tui",
        "ti_tui_version": __version__,
    }


def _run_id(run: RunFile, model_hash: str, dataset_hash: str) -> str:
    """The same for two runs only if all their settings are, wherever their files are."""
    paths = {"model": {"base"}, "dataset": {"images", "regularisation"}, "save": {"install_to"}}
    settings = run.model_dump_json(exclude=paths)
    return hashlib.sha256(f"{model_hash}|{dataset_hash}|{settings}".encode()).hexdigest()[:32]


def dataset_hash(checked: Checked) -> str:
    """SHA-256 over the content, caption and repeats of every image, in order."""
    total = hashlib.sha256()
    for scan in (checked.pictures, checked.regularisation):
        for image in scan.pictures if scan else ():
            total.update(f"{file_hash(image.path)}|{image.repeats}|{image.caption}\n".encode())
            # A mask in the image's transparency is already part of the image's hash.
            if checked.run.dataset.masks and (mask := mask_file(image.path)):
                total.update(f"mask {file_hash(mask)}\n".encode())
    return total.hexdigest()
