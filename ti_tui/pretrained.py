"""Loads transformers models from folders that were looked into; the captioner and the CLIP judge do. Needs torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers

from ti_tui.errors import UserError
from ti_tui.out_of_memory import is_out_of_memory


def load_pretrained(model_class: str, folder: Path, dtype: torch.dtype, *, safetensors: bool) -> tuple[Any, list[str]]:
    """The model, ready to be used, and the names of tensors that its files lack. Nothing is fetched or run from there.

    Raises whatever the libraries raise; see `loading_errors`.
    """
    # trust_remote_code must be said: left open, transformers asks on the terminal.
    model, report = getattr(transformers, model_class).from_pretrained(
        folder,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=safetensors,
        weights_only=True,
        dtype=dtype,
        output_loading_info=True,
    )
    return model.eval(), sorted(report["missing_keys"])


@contextlib.contextmanager
def loading_errors(what: str, error: type[UserError], remedy: str) -> Iterator[None]:
    """The libraries' errors, of many classes and many lines, as one `error` for people; no memory stays as it is.

    what: such as "the CLIP model in /models/clip".
    """
    try:
        yield
    except UserError:
        raise
    except Exception as cause:
        if is_out_of_memory(cause):
            raise
        lines = str(cause).strip().splitlines()
        first = f"{type(cause).__name__}: {lines[0][:200]}" if lines else type(cause).__name__
        raise error(f"{what} cannot be loaded: {first}", remedy=remedy) from cause


def quiet_transformers() -> None:
    """Keep its notes and progress bars away; errors still come through."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
