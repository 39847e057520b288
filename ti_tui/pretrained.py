"""Loads transformers models from folders that were checked before: captioners and CLIP. Needs torch."""

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
    """The model, ready to use, and the names of tensors that its files lack. Downloads nothing and runs no code of it.

    Raises whatever the libraries raise; see `loading_errors`.
    """
    # Without an explicit trust_remote_code transformers asks on the terminal.
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
    """Turns the libraries' errors, of many classes and many lines, into one `error` for people; but not out of memory.

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
    """Turn off the notes and progress bars of transformers; errors are still shown."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
