"""The words of the program, each with one meaning: the screens' help shows them, docs/glossary.md is made from them."""

from __future__ import annotations

GLOSSARY: dict[str, dict[str, str]] = {
    "Images and captions": {
        "photograph": "A file in your own folder, before it is prepared. ti_tui only reads it.",
        "image": "A prepared training image in the run: upright, cropped, resized.",
        "caption": "The text of an image. It names what should not become part of the token, and never the token.",
        "caption file": "The .txt beside an image or a photograph that holds its caption.",
        "template": "A prompt pattern in which [name] stands for the token and [filewords] for the caption.",
        "crop": "The box of a photograph that becomes the image; a framing says how much of it lies around a face.",
        "mask": "A grey picture that says which parts of an image are learned: white is, black is not.",
        "repeats": "How often each image is used in an epoch.",
        "regularisation images": "Images of the class (any woman) that keep the token near its class word.",
        "held-out images": "Images that are not trained on; their gain shows whether others are learned by heart.",
        "latents": "What the VAE makes of an image. They are computed once and kept in the run.",
    },
    "What is learned": {
        "subject": "What the embedding is to show: a person, an object, a style.",
        "token": "The word that calls the subject in prompts.",
        "class word": "What the subject is a kind of, such as woman; kohya's folder names hold it.",
        "vectors": "The learned rows that the token stands for. Each uses one of the prompt's 75 places.",
        "embedding": "The file that is made: vectors, token and metadata.",
        "initial words": "The words that the vectors start from (embedding.init); they give the initial vectors.",
        "norm": "The length of a vector (L2), often given relative to the median word.",
        "median word": "The median norm in the model's vocabulary: 0.4 in SD 1. 2.4x is 2.4 times as long.",
        "effective rank": "How many independent vectors the vectors behave like. Far fewer than there are: use fewer.",
        "prompt-following": "How far the prompt's other words still act beside the token; 100 % is as without it.",
    },
    "Training": {
        "run": "One training, with its folder.",
        "run folder": "All of a run: run file, images, checkpoints, samples, log.",
        "run file": "run.toml, the complete recipe of a run. The trainer never changes it.",
        "trainer": "The process that trains. It goes on without the screens, and without a terminal.",
        "helper process": "A process beside the trainer and the screens that captions, draws samples or probes rates.",
        "step": "One optimizer update.",
        "epoch": "Every image used once, times its repeats.",
        "batch size": "Images that go through the U-Net together: one micro-batch.",
        "gradient accumulation": "How many micro-batches make a step.",
        "effective batch": "Images in a step: batch size x gradient accumulation x processes; 4 x 6 is six times four.",
        "learning rate": "How far a step moves the vectors.",
        "scheme": "The learning rates of a run: segments of a rate and a number of steps, as 0.05:10, 0.02:20.",
        "segment": "A part of the scheme: one rate, for a number of steps.",
        "warm-up": "A ramp from almost nothing to the first rate, inside the first segment.",
        "optimizer": "The rule that turns gradients into steps, such as AdamW.",
        "seed": "The number that all random numbers of a run follow from: the same seed gives the same run.",
        "checkpoint": "The exact state of a run at a step, and the embedding at that step.",
        "resume": "To continue a run from a checkpoint, as if it had never ended.",
        "request": "What a running trainer is told to do: save, sample, stop, or change the scheme.",
        "compute mode": "How a step is computed: micro-batch size, kind of backward, gradient checkpointing.",
        "gradient checkpointing": "Activations are computed again in the backward pass: less memory, more time.",
        "overhead": "Time that samples and evaluations take beside the steps.",
        "probe": "Short trainings that try learning rates and propose a scheme (ti-tui probe).",
    },
    "How it is judged": {
        "train loss": "The error of one step. It has other noise each time, and says little about what is learned.",
        "eval loss": "The error on the eval set. It can be compared from step to step, within a run.",
        "eval set": "Fixed images, noise and timesteps that the eval loss is computed on.",
        "gain": "How much smaller the eval loss is than with the initial vectors. + is better.",
        "error by noise": "The eval loss relative to an empty prompt's, for four parts of the timesteps.",
        "sample": "An image that the trainer draws from a sample prompt, always with the same seed.",
        "rank": "Gain, averaged with the evaluations beside it, times prompt-following (75 % and more count as 1).",
        "best checkpoint": "The one with the highest rank; it is marked ★.",
        "verdict": "What the evaluations say of a run: learning, learned, overtraining, not learning or diverging.",
        "learned": "More steps of this kind would bring next to nothing.",
        "overtraining": "The gain on held-out images falls, or prompts are followed less: take an earlier checkpoint.",
        "not learning": "The gain stays near zero: the rates may be too low.",
        "diverging": "The error grows, or the vectors grow very long: the rates are too high.",
    },
    "The model": {
        "model": "The Stable Diffusion model that the embedding is for; also called base model.",
        "family": "SD 1, SD 2 or SDXL. An embedding fits models of its family.",
        "prediction type": "What the U-Net predicts: the noise (epsilon) or the velocity (v).",
        "text encoder": "The part of the model that reads the prompt. SDXL has two.",
        "U-Net": "The part of the model that removes noise.",
        "VAE": "The part of the model that turns images into latents and back.",
    },
}
"""Meanings by word, in chapters."""


def meaning(word: str) -> str:
    """What `word` means. Raises KeyError if it is not in the glossary."""
    for words in GLOSSARY.values():
        if word in words:
            return words[word]
    raise KeyError(word)
