"""Finds a captioner's folder and checks it before anything is loaded, for commands and screens. No torch."""

from __future__ import annotations

import math
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ti_tui import bounded
from ti_tui.captions.endpoint import CaptionerError, Endpoint
from ti_tui.paths import is_there, user_path
from ti_tui.run.model import HUB_ID
from ti_tui.run.model_folder import COPY_AGAIN, PROCESSOR, WEIGHTS, ModelFolder
from ti_tui.run.weight_shapes import Shapes
from ti_tui.settings import config_folder, load_settings

ENVIRONMENT = "TI_TUI_CAPTIONER"
FIRST_CHOICE = "Salesforce/blip-image-captioning-base"
KNOWN = (
    FIRST_CHOICE,
    "Salesforce/blip-image-captioning-large",
    "florence-community/Florence-2-base",
    "florence-community/Florence-2-large",
    "microsoft/git-base-coco",
    "microsoft/git-large-coco",
    "Salesforce/blip2-opt-2.7b",
)
"""Hub ids that are looked for in the hub's cache, in this order."""

FEWEST_TOKENS = 1000
"""Captioners' tokenizers have 30,000 tokens or more. One with fewer has lost its vocabulary: transformers silently
makes up another one, in which every word is the unknown token."""
SENTENCE = "a photo of a person"


@dataclass(frozen=True)
class CaptionerKind:
    """A family of captioners that transformers supports without code from the folder.

    begins: for each of these, the name of some tensor begins with it.
    """

    name: str
    model_class: str
    processor_class: str
    begins: tuple[str, ...] = ()


KINDS: dict[str, CaptionerKind] = {
    "blip": CaptionerKind("BLIP", "BlipForConditionalGeneration", "BlipProcessor", ("vision_model.", "text_decoder.")),
    "blip-2": CaptionerKind(
        "BLIP-2", "Blip2ForConditionalGeneration", "Blip2Processor", ("vision_model.", "qformer.", "language_model.")
    ),
    "git": CaptionerKind("GIT", "GitForCausalLM", "GitProcessor", ("git.",)),
    "florence2": CaptionerKind("Florence-2", "Florence2ForConditionalGeneration", "Florence2Processor"),
}
"""By `model_type` in config.json."""


@dataclass(frozen=True)
class CaptionerModel:
    """A captioner's folder that was checked. safetensors: whether its weights are in that format."""

    path: Path
    model_type: str
    parameters: int
    safetensors: bool

    @property
    def kind(self) -> CaptionerKind:
        return KINDS[self.model_type]

    def describe(self) -> str:
        """`BLIP, 224 million parameters`."""
        count = self.parameters
        size = f"{count / 1e9:.1f} billion" if count >= 1e9 else f"{count / 1e6:.3g} million"
        return f"{self.kind.name}, {size} parameters"


def find_captioner(given: str = "") -> Path | Endpoint:
    """The folder of the captioner: the one given, else $TI_TUI_CAPTIONER, else `captioner` in config.toml, else one of
    `KNOWN` in the hub's cache. Each may be a folder, a hub id, which is looked for in that cache, or the address of an
    endpoint with the name of a model, `http://localhost:11434/v1 llava`.

    Raises CaptionerError. Nothing is downloaded.
    """
    config = config_folder() / "config.toml"
    named = (
        (given, ""),
        (os.environ.get(ENVIRONMENT, ""), f"${ENVIRONMENT}"),
        (load_settings()[0].captioner, f"{config}: captioner"),
    )
    for text, where in named:
        if text.strip():
            return Endpoint.named(text.strip()) or _named(text.strip(), where)
    for hub_id in KNOWN:
        if folder := _cached(hub_id):
            return folder
    raise CaptionerError(
        f"no captioner was found: none is named (--model, ${ENVIRONMENT}, `captioner` in {config}), none is in the "
        "Hugging Face cache",
        remedy=how_to_get(),
    )


def how_to_get() -> str:
    """How to get a captioner, in two lines."""
    return (
        f"Get one: `hf download {FIRST_CHOICE} --exclude tf_model.h5 --local-dir blip` (0.9 GB); name that folder.\n"
        f"Without a network here, do that elsewhere and copy it: `rsync -a blip {socket.gethostname()}:models/` or "
        "`scp -r`."
    )


def check_captioner(path: Path) -> CaptionerModel:
    """Check a captioner's folder: kind, files, weights, vocabulary. Raises CaptionerError with what to do."""
    path = _inside_cache(path)
    _check_is_folder(path)
    folder = ModelFolder(path, CaptionerError)
    config = folder.table("config.json") if folder.has("config.json") else None
    if config is not None:
        _check_kind(folder, config)
    _check_files(path)
    assert config is not None
    kind = KINDS[config["model_type"]]
    shapes, safetensors = folder.weights()
    _check_weights(path, kind, shapes)
    _check_vocabulary(folder)
    parameters = sum(math.prod(shape) for shape in shapes.values())
    return CaptionerModel(path, config["model_type"], parameters, safetensors)


def _named(text: str, where: str) -> Path:
    path = user_path(text)
    if is_there(path):
        return path.absolute()
    if HUB_ID.fullmatch(text) and not text.startswith("."):
        if folder := _cached(text):
            return folder
        raise CaptionerError(
            f"there is no folder {text}, and no such model in the Hugging Face cache", where=where, remedy=how_to_get()
        )
    raise CaptionerError(f"there is no captioner at {path}", where=where, remedy=how_to_get())


def _cached(hub_id: str) -> Path | None:
    """The folder of a hub id in the hub's cache, if it is whole."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(hub_id, local_files_only=True))
        _check_files(folder)
    except (LocalEntryNotFoundError, HfHubHTTPError, CaptionerError, OSError, ValueError):
        return None
    return folder


def _inside_cache(path: Path) -> Path:
    """The snapshot in one of the cache's `models--owner--name` folders; any other path as it is."""
    try:
        head = bounded.read_text(path / "refs" / "main", 1000).strip()
        snapshot = path / "snapshots" / head
        return snapshot if head and snapshot.is_dir() else path
    except (OSError, ValueError):
        return path


def _check_is_folder(path: Path) -> None:
    if not is_there(path):
        raise CaptionerError(f"there is no captioner at {path}", remedy=how_to_get())
    if path.is_dir():
        return
    if path.suffix in {".pth", ".pt"}:
        raise _salesforce(path)
    if path.name in {"config.json", "model.safetensors", "pytorch_model.bin"}:
        raise CaptionerError(f"{path} is one file of a captioner", remedy=f"Give its folder: {path.parent}")
    raise CaptionerError(f"{path} is a file; a captioner is a folder with config.json", remedy=how_to_get())


def _salesforce(path: Path) -> CaptionerError:
    return CaptionerError(
        f"{path} is in the format of Salesforce's own code, which A1111 and kohya_ss use; it is not read here. Use "
        f"the folder {FIRST_CHOICE}, which is the same model",
        remedy=how_to_get(),
    )


def _check_kind(folder: ModelFolder, config: dict[str, Any]) -> None:
    model_type = config.get("model_type")
    supported = ", ".join(f"{kind.name} ({name})" for name, kind in KINDS.items())
    if not isinstance(model_type, str) or model_type not in KINDS:
        what = f"is a {model_type!r} model" if model_type else "does not say in config.json what model it is"
        raise CaptionerError(f"{folder.path} {what}; captions can be made with {supported}", remedy=how_to_get())
    instead = "florence-community/Florence-2-base" if model_type == "florence2" else FIRST_CHOICE
    folder.refuse_code(config, f"Use {instead}: it needs none.")
    made_for = config.get("architectures")
    if isinstance(made_for, list) and made_for and KINDS[model_type].model_class not in made_for:
        raise CaptionerError(
            f"{folder.path} is not made for captions ({', '.join(map(str, made_for))})",
            remedy=how_to_get(),
        )


_NEEDED: tuple[tuple[str, ...], ...] = (
    ("config.json",),
    (*WEIGHTS, *(f"{name}.index.json" for name in WEIGHTS)),
    PROCESSOR,
    ("tokenizer.json", "vocab.txt", "vocab.json"),
)
"""Of each line one file must be there; the first two are named to people."""


def _check_files(folder: Path) -> None:
    try:
        names = {entry.name for entry in folder.iterdir() if entry.is_file()}
        inside = [entry.name for entry in folder.iterdir() if (entry / "config.json").is_file()]
    except OSError as error:
        raise CaptionerError(f"{folder} cannot be read: {error.strerror or error}") from None
    missing = [choices for choices in _NEEDED if not names & set(choices)]
    if not missing:
        if not {"tokenizer.json", "vocab.txt"} & names and "merges.txt" not in names:
            raise CaptionerError(f"{folder} lacks merges.txt", remedy=COPY_AGAIN)
        return
    old = sorted(name for name in names if name.endswith(".pth"))
    if old:
        raise _salesforce(folder / old[0])
    if "model_index.json" in names:
        raise CaptionerError(
            f"{folder} is a model to train on (a diffusers folder), not a captioner", remedy=how_to_get()
        )
    if "config.json" not in names and inside:
        raise CaptionerError(f"{folder} is not a captioner", remedy=f"Did you mean {folder / sorted(inside)[0]}?")
    if len(missing) == len(_NEEDED):
        raise CaptionerError(f"{folder} contains no captioner", remedy=how_to_get())
    raise CaptionerError(
        f"the captioner {folder} lacks {_in_words(missing)}",
        remedy=f"It needs {_in_words(_NEEDED)}. Copy the whole folder again.",
    )


def _in_words(files: Any) -> str:
    return ", ".join(" or ".join(choices[:2]) for choices in files)


def _check_weights(folder: Path, kind: CaptionerKind, shapes: Shapes) -> None:
    if any(name.startswith("visual_encoder.") for name in shapes):
        raise _salesforce(folder)
    absent = [start for start in kind.begins if not any(name.startswith(start) for name in shapes)]
    if absent or not shapes:
        says = f"no tensor is called {absent[0]}..." if absent else "they are empty"
        raise CaptionerError(
            f"the weights in {folder} are not those of a {kind.name} captioner ({says})",
            remedy="Copy the whole folder again: config.json and the weights are of two models.",
        )


def _check_vocabulary(folder: ModelFolder) -> None:
    """Refuse a tokenizer that lost its vocabulary; see FEWEST_TOKENS."""
    tokens, unknown = _vocabulary(folder)
    if tokens < FEWEST_TOKENS or unknown:
        says = f"it knows {tokens} tokens" if tokens < FEWEST_TOKENS else f"it does not know {', '.join(unknown)}"
        raise CaptionerError(
            f"the tokenizer in {folder.path} has lost its vocabulary ({says}): captions would be nonsense",
            remedy="Copy the whole folder again, with tokenizer.json and vocab.txt.",
        )


def _vocabulary(folder: ModelFolder) -> tuple[int, list[str]]:
    """(tokens that the tokenizer knows, words of SENTENCE that it does not)."""
    if folder.has("tokenizer.json"):
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(os.fsdecode(folder.path / "tokenizer.json"))
            unknown_token = folder.table("tokenizer.json")["model"].get("unk_token")
            encoded = tokenizer.encode(SENTENCE, add_special_tokens=False)
        except CaptionerError:
            raise
        except Exception as error:
            # The library has only Exception for whatever is wrong with the file.
            raise CaptionerError(
                f"{folder.path / 'tokenizer.json'} cannot be read: {error}", remedy=COPY_AGAIN
            ) from None
        spans = [span for token, span in zip(encoded.tokens, encoded.offsets, strict=True) if token == unknown_token]
        # A word in pieces is known by its pieces; without any piece it is unknown.
        unknown = [SENTENCE[start:end] for start, end in spans] if encoded.tokens else [SENTENCE]
        return tokenizer.get_vocab_size(), unknown
    if folder.has("vocab.txt"):
        try:
            known = set(bounded.read_text(folder.path / "vocab.txt").split())
        except (OSError, ValueError) as error:
            raise CaptionerError(f"{folder.path / 'vocab.txt'} cannot be read: {error}") from None
        return len(known), [word for word in SENTENCE.split() if word not in known]
    # Byte-pair vocabularies know every byte, so no word is unknown to them.
    return len(folder.table("vocab.json")), []
