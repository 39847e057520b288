"""Puts a finished model into the program: its folder with a card, and the concepts' images."""

from __future__ import annotations

import shutil
from pathlib import Path

from tools.demo_model.concepts import write_pictures

DEMO = Path(__file__).parent.parent.parent / "ti_tui" / "data" / "demo"
MOST_BYTES = 8_000_000

CARD = """\
# The demo model

A small Stable Diffusion, made for `ti-tui demo` and for measuring what a training learns. It draws one thing before a
plain background at 48x48 pixels and knows {words} tokens: shapes, patterns, colours, backgrounds, frames.

    a photo of a red striped heart on a white background in a yellow frame

- Parts: U-Net 2.73M parameters (12x12 latents, attention at 6x6 and 3x3), VAE 0.65M (4 pixels a latent), CLIP text
  model 0.15M (2 layers, 77 positions). U-Net and VAE in fp16, text encoder in float32. Epsilon prediction, SD 1's noise
  schedule. `StableDiffusionPipeline.from_pretrained` loads it as it is.
- Made from nothing by `python -m tools.demo_model OUT` on procedural pictures of its own; no photograph, no weights of
  another model and nobody's data are in it. Recipe and figures: docs/demo-model.md.
- How often it draws what its own words say ({count} pictures, guidance {guidance:g}, 20 steps DPM++ 2M, judged by a
  network that knows only drawn pictures): {rates}.
- What it is not: a model of the world. It is no use beyond the demo, the benchmark and tests.

Licence: Apache-2.0, like the program.
"""


def bundle(model: Path, rates: dict[str, float], *, words: int, count: int, guidance: float) -> None:
    """Copy `model` with a card into the program's data, and write the images. Raises ValueError if it is too large."""
    size = sum(path.stat().st_size for path in model.rglob("*") if path.is_file())
    if size > MOST_BYTES:
        raise ValueError(f"{model} has {size} bytes; {MOST_BYTES} may be bundled")
    shutil.rmtree(DEMO / "demo-model", ignore_errors=True)
    shutil.copytree(model, DEMO / "demo-model")
    shown = ", ".join(f"{name} {rates[name]:.3f}" for name in ("shape", "pattern", "colour", "background", "all"))
    card = CARD.format(words=words, count=count, guidance=guidance, rates=shown)
    (DEMO / "demo-model" / "README.md").write_text(card, encoding="utf-8")
    shutil.rmtree(DEMO / "pictures", ignore_errors=True)
    write_pictures(DEMO / "pictures")
