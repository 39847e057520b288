"""Which weights files in a part of a diffusers folder belong together: whole files, shards, variants. No torch.

One choice for the check before a run, the trainer, the vocabulary and downloads, so that what was checked is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ti_tui import bounded
from ti_tui.run.weight_shapes import WeightsError

_WEIGHTS = re.compile(
    r"(?P<base>diffusion_pytorch_model|model|pytorch_model)(?:\.(?P<variant>\w+))?"
    r"(?:-(?P<number>\d{5})-of-(?P<count>\d{5}))?(?:\.(?P<late>\w+))?\.(?P<kind>safetensors|bin)"
)
"""Names that diffusers and transformers write; a variant, such as fp16, stands before or after the shard's number."""
_INDEX = re.compile(r"\w+(?:\.(?P<variant>\w+))?\.(?P<kind>safetensors|bin)\.index(?:\.(?P<late>\w+))?\.json")
KINDS = ("safetensors", "bin")
FULL_FIRST: tuple[str, ...] = ("", "fp16")
"""Which variant is loaded if there are several; others come last."""
HALF_FIRST: tuple[str, ...] = ("fp16", "")
"""Which one is downloaded: half the size."""
NOT_USED = "non_ema"
"""A variant for training the U-Net itself, which published models have beside the one that is used."""
COPY_AGAIN = "Copy the whole model folder."


@dataclass(frozen=True)
class WeightSet:
    """The files of one kind and variant.

    files:   the whole file, else its shards; without what is missing.
    missing: shards that are not there.
    indexes: the files that list the shards.
    others:  files of the same kind and variant that are not read, such as left-over shards beside a whole file.
    """

    kind: str
    variant: str
    files: tuple[str, ...]
    missing: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


def weight_sets(
    names: Iterable[str], listed: Callable[[str], Iterable[str]], variants: Sequence[str] = FULL_FIRST
) -> list[WeightSet]:
    """The sets among the file names of a folder, in the order in which they are tried.

    listed: the shards that an index names; nothing if it cannot be read.
    """
    groups: dict[tuple[str, str], list[re.Match[str]]] = {}
    indexes: dict[tuple[str, str], list[str]] = {}
    for name in sorted(names):
        if found := _WEIGHTS.fullmatch(name):
            groups.setdefault(_group(found), []).append(found)
        elif found := _INDEX.fullmatch(name):
            indexes.setdefault(_group(found), []).append(name)
    order = {variant: place for place, variant in enumerate(variants)}
    keys = sorted(groups, key=lambda key: (KINDS.index(key[0]), order.get(key[1], len(order)), key[1]))
    sets = []
    for kind, variant in keys:
        if variant == NOT_USED:
            continue
        present = [found[0] for found in groups[kind, variant]]
        lists = tuple(indexes.get((kind, variant), ()))
        wanted = _wanted(groups[kind, variant], [set(listed(index)) for index in lists])
        files = tuple(name for name in wanted if name in present)
        missing = tuple(name for name in wanted if name not in present)
        others = tuple(name for name in present if name not in wanted)
        sets.append(WeightSet(kind, variant, files, missing, lists, others))
    return sets


def _group(found: re.Match[str]) -> tuple[str, str]:
    return found["kind"], found["variant"] or found["late"] or ""


def _wanted(group: list[re.Match[str]], indexed: list[set[str]]) -> list[str]:
    """The names that make a whole: the file without a number, else what an index lists, else all numbers."""
    if whole := [found[0] for found in group if found["number"] is None]:
        return whole[:1]
    if indexed and (listed := max(indexed, key=len)):
        return sorted(listed)
    candidates = []
    for count in sorted({found["count"] for found in group}):
        one = next(found for found in group if found["count"] == count)
        number, total = f"-{one['number']}-of-", int(count)
        # A name may claim a million shards; nobody writes more than dozens.
        numbers = range(1, min(total, 1000) + 1)
        candidates.append([one[0].replace(number, f"-{index:05d}-of-") for index in numbers])
    present = {found[0] for found in group}
    return max(candidates, key=lambda names: present.issuperset(names))


def find_weights(folder: Path) -> WeightSet:
    """The weights of a part that are loaded: the first set that is whole. Raises WeightsError if none is."""
    try:
        names = [path.name for path in folder.iterdir() if path.is_file()]
    except OSError:
        names = []
    sets = weight_sets(names, lambda index: listed_in(folder / index))
    for found in sets:
        if not found.missing:
            return found
    if sets:
        first = sets[0]
        shown = ", ".join(first.missing[:3]) + (", ..." if len(first.missing) > 3 else "")
        raise WeightsError(f"{folder} lacks {shown}", remedy=COPY_AGAIN)
    there = sorted(name for name in names if name.endswith((*(f".{kind}" for kind in KINDS), ".pth", ".ckpt")))
    only = f", only {', '.join(there[:3])}" if there else ""
    raise WeightsError(f"{folder} holds no weights{only}", remedy=f"{COPY_AGAIN} {_expected(folder)}")


def _expected(folder: Path) -> str:
    name = "model.safetensors" if folder.name.startswith("text_encoder") else "diffusion_pytorch_model.safetensors"
    return f"It has {name} there."


def listed_in(index: Path) -> list[str]:
    """The shards that an index file names; empty if it cannot be read, or names files elsewhere."""
    try:
        table = bounded.read_json(index)["weight_map"]
        names = {str(name) for name in table.values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    return sorted(names) if all(_WEIGHTS.fullmatch(name) for name in names) else []
