"""Makes the demo model: `python -m tools.demo_model OUT`.

On a CPU of two cores about an hour, on a GPU some minutes. Every stage leaves its weights in OUT/stages, so that a run
that was ended goes on with the next; `--bundle` puts a model that passes the gate into ti_tui/data/demo.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ti_tui.dataset.tokens import PromptTokenizer
from tools.demo_model import stages
from tools.demo_model.bundle import bundle
from tools.demo_model.gate import GUIDANCE, print_gate
from tools.demo_model.judge import WEIGHTS, load_judge
from tools.demo_model.make import loaded, make
from tools.demo_model.networks import new_text_encoder, new_unet, new_vae, write_folder
from tools.demo_model.team import run_team


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a few steps of each stage, to see that it runs")
    parser.add_argument("--bundle", action="store_true", help="put the model, the judge and the images in their place")
    given = parser.parse_args()
    effort = stages.QUICK if given.quick else stages.Effort()
    run_team(make, given.out, given.seed, effort)

    kept, model = given.out / "stages", given.out / "model"
    vae = loaded(new_vae(), kept / "vae.safetensors")
    tokenizer = PromptTokenizer.from_folder(model / "tokenizer")
    text = loaded(new_text_encoder(tokenizer.size), kept / "text.safetensors")
    write_folder(model, loaded(new_unet(), kept / "unet.safetensors"), vae, text)
    size = sum(path.stat().st_size for path in model.rglob("*") if path.is_file())
    print(f"{model}: {size / 1e6:.2f} MB")
    count = 2 if given.quick else 288
    rates = print_gate(model, load_judge(kept / "judge.safetensors"), count)
    if given.bundle:
        bundle(model, rates, words=tokenizer.size, count=count, guidance=GUIDANCE)
        WEIGHTS.write_bytes((kept / "judge.safetensors").read_bytes())


if __name__ == "__main__":
    main()
