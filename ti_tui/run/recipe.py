"""The tables and fields of a run file, each field with its description, unit, bounds and default.

The form, the help, the review, the comments in run files and the docs are all made from them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from ti_tui.run.optimizers import OPTIMIZERS
from ti_tui.run.scheme import DEFAULT_SCHEME, EarlierScheme, Scheme, SchemeShape, Segment, segment_values

FORMAT = 1

Auto = Literal["auto"]
Family = Literal["sd1", "sd2", "sdxl"]
ArgumentValue = bool | int | float | str | list[bool | int | float]


def _field(
    default: Any,
    help: str,
    *,
    label: str = "",
    unit: str = "",
    basic: bool = False,
    path: bool = False,
    recorded: bool = False,
    **bounds: Any,
) -> Any:
    """A field. recorded: the program writes it, no form shows it, and a run file without it is the usual one."""
    extra: Any = {"label": label, "unit": unit, "basic": basic, "path": path} | ({"recorded": True} if recorded else {})
    if callable(default):
        return Field(default_factory=default, description=help, json_schema_extra=extra, **bounds)
    return Field(default, description=help, json_schema_extra=extra, **bounds)


class Table(BaseModel):
    """A table of the run file. Unknown keys are errors; values are never coerced."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class ModelTable(Table):
    """The Stable Diffusion model that the embedding is for."""

    base: str = _field(
        ...,
        "The model: a .safetensors or .ckpt file, a diffusers folder, or a hub id.",
        label="Model",
        path=True,
        basic=True,
        min_length=1,
    )
    vae: str = _field("", "Another VAE, a file or a folder; empty takes the model's own.", label="VAE", path=True)
    tokenizer: str = _field(
        "", "A folder with vocab.json and merges.txt; empty takes the model's own or CLIP's.", path=True
    )
    clip_skip: int = _field(1, "Text-encoder layer that is read, counted from the end (SD 1 and 2).", ge=1, le=12)
    prediction: Literal["auto", "epsilon", "v_prediction"] = _field(
        "auto", "What the U-Net predicts; auto reads it from the model."
    )


class DatasetTable(Table):
    """The training images and their captions."""

    images: str = _field(
        ...,
        "Folder with the training images, or with kohya's <repeats>_<name> folders.",
        basic=True,
        min_length=1,
    )
    regularisation: str = _field("", "Folder with images of the class; empty uses none.", path=True)
    resolution: int = _field(
        512,
        "Side of the square that each image is trained at.",
        unit="pixels",
        basic=True,
        ge=16,
        le=4096,
        multiple_of=8,
    )
    template: str = _field(
        "object",
        "Prompt patterns: object, style, captions, or a file with [name] and [filewords].",
        basic=True,
        min_length=1,
    )
    flip: bool = _field(False, "Show each image mirrored half of the time. Not for faces: they are not symmetric.")
    buckets: bool = _field(False, "Keep each image's shape (about the same area) instead of a square crop.")
    masks: bool = _field(
        False, "Learn only what a mask shows: 0001-mask.png beside 0001.png (white is learned), or its transparency."
    )
    mask_outside: float = _field(
        0.1,
        "Weight of what a mask leaves out, relative to the rest; 0 ignores it.",
        label="Outside masks",
        ge=0,
        le=1,
    )


class EmbeddingTable(Table):
    """What is learned."""

    token: str = _field(
        ...,
        "The word that will call the subject in prompts.",
        basic=True,
        min_length=1,
        max_length=40,
        pattern=r"^[^\s\p{C}\[\]/\\:*?\"<>|,.]+$",
    )
    init: str = _field(
        "",
        "Words that the vectors start from, or an embedding file; empty starts at random.",
        label="Start from",
        basic=True,
    )
    start: Literal["words", "mean", "cross"] = _field(
        "words",
        "What the words give: words spreads them over the vectors, mean blends them, cross takes the encoder's output.",
        label="Start as",
    )
    vectors: int = _field(
        12, "How many vectors the token has; each uses one of the prompt's 75 places.", basic=True, ge=1, le=75
    )
    norm: Literal["free", "match", "direction"] = _field(
        "free",
        "Norm of the vectors: free leaves it, match keeps the vocabulary's, direction also learns no norm.",
    )


class SegmentItem(Table):
    """One segment of the scheme."""

    learning_rate: float = Field(gt=0, description="Learning rate of this segment.")
    steps: int = Field(ge=1, le=1_000_000, description="For how many optimizer steps it holds.")


class EarlierItem(Table):
    """A scheme that holds until a step, because the run was changed there."""

    until: int = Field(ge=1, description="The number of first steps that it holds for.")
    segments: list[SegmentItem] = Field(min_length=1, description="As in [scheme].")
    warmup_steps: int = Field(0, ge=0, description="As in [scheme].")
    shape: SchemeShape = Field("segments", description="As in [scheme].")


class SchemeTable(Table):
    """The learning rate over the run."""

    segments: list[SegmentItem] = _field(
        lambda: SchemeTable.from_scheme(DEFAULT_SCHEME).segments,
        "Learning rate and for how many steps it holds, one after the other.",
        basic=True,
        min_length=1,
    )
    warmup_steps: int = _field(0, "Ramp at the start, inside the first segment.", unit="steps", ge=0)
    shape: SchemeShape = _field(
        "segments", "segments: each rate as written; the others go from the first rate to the last."
    )
    earlier: list[EarlierItem] = _field(
        list,
        "Rates before the run was changed while it trained: each scheme holds until its step, instead of the above.",
        recorded=True,
    )

    def scheme(self) -> Scheme:
        """The scheme of this table. Raises SchemeError if the warm-up or an earlier scheme does not fit."""
        earlier = tuple(EarlierScheme(item.until, _plain_scheme(item)) for item in self.earlier)
        return replace(_plain_scheme(self), earlier=earlier)

    @classmethod
    def from_scheme(cls, scheme: Scheme) -> SchemeTable:
        """The table that holds `scheme`."""
        earlier = [EarlierItem(until=one.until, **_plain_values(one.scheme)) for one in scheme.earlier]
        return cls(**_plain_values(scheme), earlier=earlier)


def _plain_scheme(table: SchemeTable | EarlierItem) -> Scheme:
    segments = tuple(Segment(item.learning_rate, item.steps) for item in table.segments)
    return Scheme(segments, table.warmup_steps, table.shape)


def _plain_values(scheme: Scheme) -> dict[str, Any]:
    segments = [SegmentItem(**values) for values in segment_values(scheme.segments)]
    return {"segments": segments, "warmup_steps": scheme.warmup_steps, "shape": scheme.shape}


class TrainingTable(Table):
    """How it is learned."""

    batch_size: Auto | Annotated[int, Field(ge=1, le=64)] = _field(
        "auto", "Images that go through the U-Net together.", label="Batch size", unit="images", basic=True
    )
    accumulation: Auto | Annotated[int, Field(ge=1, le=1024)] = _field(
        "auto", "Micro-batches per step; auto makes one step use every image once.", label="Accumulation", basic=True
    )
    optimizer: str = _field("adamw", f"{', '.join(OPTIMIZERS)}.", min_length=1)
    optimizer_arguments: dict[str, ArgumentValue] = _field(
        dict, "Further arguments of the optimizer, such as { betas = [0.9, 0.99] }."
    )
    weight_decay: float = _field(
        0.0, "Pull of the vectors towards zero; more than 0 is rarely wanted here.", ge=0, le=1
    )
    max_gradient_norm: float = _field(1.0, "Largest gradient norm of the vectors; 0 never clips it.", ge=0)
    seed: int = _field(42, "Start of all random numbers: the same seed gives the same run.", ge=0, le=2**63 - 1)
    device: str = _field("auto", "auto, cpu, cuda, or cuda:1.", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = _field(
        "auto",
        "Number format of the frozen parts; auto takes bf16 where the card has it, fp16 elsewhere, fp32 on a CPU.",
    )
    attention: Literal["auto", "sdpa", "xformers", "plain"] = _field(
        "auto", "Attention kernel of the U-Net; auto is sdpa."
    )
    recompute: Literal["auto", "off", "some", "on"] = _field(
        "auto", "Gradient checkpointing: less memory, more time; auto uses it only if nothing else fits."
    )
    lean_backward: Literal["auto", "on", "off"] = _field(
        "auto", "Let frozen layers keep only what the gradient needs: a third less memory, the same result."
    )
    quantise: Literal["auto", "off", "8bit"] = _field(
        "auto", "Hold the U-Net's weights in 8 bits; auto does so only where the card would not hold it otherwise."
    )
    text_encoder: Literal["auto", "device", "cpu"] = _field(
        "auto", "Where the text encoder computes; auto takes the CPU only if the card has no room for it."
    )
    channels_last: Literal["off", "on"] = _field(
        "off",
        "Keep images in memory with channels last: faster on some cards; on a CPU 5 % in bf16 for more memory.",
    )
    compile: Literal["off", "auto", "blocks", "full"] = _field(
        "off", "Compile the U-Net or its blocks on a card; auto does so where the run wins back the minute it takes."
    )
    cache_latents: Literal["memory", "disk"] = _field(
        "disk", "Where encoded images are kept; disk also serves the next run."
    )
    vram_limit_gib: float = _field(
        0.0, "Use at most so much of the card; 0 is all that is free.", label="VRAM limit", unit="GiB", ge=0
    )
    loss: Literal["l2", "l1", "huber"] = _field("l2", "How the difference of prediction and target is measured.")
    huber_delta: float = _field(0.1, "Where the huber loss turns from l2 to l1.", gt=0)
    min_snr_gamma: float = _field(
        0.0,
        "Weigh timesteps by signal-to-noise (5 is usual); 0 weighs all alike.",
        label="Min-SNR gamma",
        ge=0,
        le=1000,
    )
    noise_offset: float = _field(
        0.0, "Shift of the noise's mean, for very dark or bright images; 0.05 is usual.", ge=0, le=1
    )
    timesteps: Literal["stratified", "uniform"] = _field(
        "stratified",
        "stratified spreads the images of a step evenly over the timesteps: a steadier gradient for free.",
    )
    min_timestep: int = _field(0, "Lowest timestep that is trained.", ge=0, le=999)
    max_timestep: int = _field(1000, "Timesteps below this one are trained.", ge=1, le=1000)
    prior_loss_weight: float = _field(1.0, "Weight of the regularisation images.", ge=0, le=10)


class SaveTable(Table):
    """Checkpoints and the files that come out."""

    every_steps: int = _field(
        100, "Save every so many steps; 0 saves at the end only.", label="Save every", unit="steps", basic=True, ge=0
    )
    every_epochs: int = _field(
        0, "Save every so many epochs as well; 0 does not.", label="Save every", unit="epochs", ge=0
    )
    keep: int = _field(0, "Keep only the last so many checkpoints; 0 keeps all.", label="Keep checkpoints", ge=0)
    formats: list[Literal["safetensors", "a1111-pt", "diffusers", "onetrainer"]] = _field(
        lambda: ["safetensors", "a1111-pt"], "Forms of the embedding that are written.", min_length=1
    )
    install_to: str = _field(
        "", "The embeddings folder of A1111, Forge or ComfyUI to copy the result into.", basic=True, path=True
    )
    log_to: list[Literal["tensorboard", "wandb"]] = _field(
        list, "Other programs that the log is also written for, below log/.", label="Log for"
    )


class SampleTable(Table):
    """Samples drawn while training."""

    every_steps: int = _field(
        100,
        "Draw samples every so many steps, and at the start and the end; 0 draws none.",
        label="Sample every",
        unit="steps",
        basic=True,
        ge=0,
    )
    every_epochs: int = _field(
        0, "Draw samples every so many epochs as well; 0 does not.", label="Sample every", unit="epochs", ge=0
    )
    prompts: list[str] = _field(
        lambda: ["a photo of [name] --d 1"],
        "One line a sample; [name] is the token, options as in kohya: --n --w --h --d --l --s.",
        label="Sample prompts",
        basic=True,
    )


class EvaluationTable(Table):
    """The eval loss: on a fixed eval set, comparable from step to step."""

    every_steps: Auto | Annotated[int, Field(ge=0)] = _field(
        "auto",
        "Evaluate every so many steps; auto keeps its cost under 5 %, 0 does not.",
        label="Eval every",
        unit="steps",
    )
    hold_out: Literal["auto", "off"] | Annotated[int, Field(ge=1, le=1000)] = _field(
        "auto",
        "Images that are not trained on but evaluated: auto is one in eight of ten or more.",
        label="Hold out",
        unit="images",
    )
    early_stop: Literal["off", "suggest", "stop"] = _field(
        "suggest",
        "When it is learned or gets worse: suggest says so, stop also ends the run there, off says nothing.",
        label="Early stop",
    )


class RunFile(Table):
    """The complete recipe of a run: everything that is needed to repeat it."""

    format: Literal[1] = Field(1, description="Version of this file's form.")
    model: ModelTable
    dataset: DatasetTable
    embedding: EmbeddingTable
    scheme: SchemeTable = Field(default_factory=SchemeTable)
    training: TrainingTable = Field(default_factory=TrainingTable)
    save: SaveTable = Field(default_factory=SaveTable)
    sample: SampleTable = Field(default_factory=SampleTable)
    evaluation: EvaluationTable = Field(default_factory=EvaluationTable)

    def with_scheme(self, scheme: Scheme) -> RunFile:
        """The same run with another scheme."""
        return self.model_copy(update={"scheme": SchemeTable.from_scheme(scheme)})


TABLES: dict[str, type[Table]] = {
    "model": ModelTable,
    "dataset": DatasetTable,
    "embedding": EmbeddingTable,
    "scheme": SchemeTable,
    "training": TrainingTable,
    "save": SaveTable,
    "sample": SampleTable,
    "evaluation": EvaluationTable,
}


def is_recorded(info: FieldInfo) -> bool:
    """Whether the program writes this field itself, so that no form shows it."""
    return isinstance(info.json_schema_extra, dict) and bool(info.json_schema_extra.get("recorded"))
