"""The demo: a run with the model and images that come with the program, in a temporary folder that can be removed."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from shlex import quote
from typing import Any

from ti_tui import settings
from ti_tui.atomic import cannot_write
from ti_tui.errors import UserError
from ti_tui.run.folder import RunFolder
from ti_tui.run.problems import nearest
from ti_tui.run.scheme import parse, segment_values
from ti_tui.setup.draft import Draft

CONCEPT = "teal-ring"
TOKEN = "zkz"
CLASS_WORD = "thing"
RESOLUTION = 48
TEMPLATE = "captions"
SCHEME = "0.05:10, 0.02:20, 0.01:60, 0.005:30"
"""The faces preset, shortened: by then each of the easy concepts is learned (docs/quality.md)."""
SAMPLE_EVERY = 20
SAVE_EVERY = 40
PROMPTS = (
    "a photo of a [name] on a white background --d 1 --l 2",
    "a photo of a [name] on a green background in a red frame --d 2 --l 2",
)
PREFIX = "ti_tui-demo-"
TEMPORARY = ("/tmp", "/var/tmp", "/usr/tmp")
"""Where `tempfile` looks, besides the folders in TMPDIR, TEMP and TMP."""


class DemoError(UserError):
    """There is no such demo, or no folder for it."""


@dataclass(frozen=True)
class Concept:
    """Something to learn. hard: plain training does not always learn it."""

    name: str
    title: str
    hard: bool = False


@dataclass(frozen=True)
class DemoFolder:
    """A temporary folder for one run. remembered: whether `clean` knows of it."""

    path: Path
    remembered: bool

    def run(self, concept: str) -> RunFolder:
        """The run folder in it; the caller makes the run."""
        return RunFolder(self.path / concept)

    @property
    def removal(self) -> str:
        """The command that removes it."""
        return "ti-tui demo --clean" if self.remembered else f"rm -r {quote(str(self.path))}"


@dataclass(frozen=True)
class Cleaned:
    """What `clean` did. removed: folders and their bytes; left: why folders were not removed, and what to do."""

    removed: tuple[tuple[Path, int], ...] = ()
    left: tuple[UserError, ...] = ()


@cache
def concepts() -> dict[str, Concept]:
    """Everything that the demo can learn, by name, the easy ones first."""
    table = tomllib.loads((_data() / "concepts.toml").read_text(encoding="utf-8"))
    return {name: Concept(name, values["title"], values["hard"]) for name, values in table.items()}


def concept(name: str) -> Concept:
    """The concept called `name`. Raises DemoError if there is none."""
    if name not in concepts():
        guess = nearest(name, concepts())
        meant = f"; did you mean {guess}?" if guess else ""
        raise DemoError(f"there is no demo {name!r}{meant}", remedy="`ti-tui demo --list` names them all.")
    return concepts()[name]


def pictures_of(name: str) -> Path:
    """The folder with the images of a concept and their captions."""
    return _data() / "pictures" / name


def demo_values(scheme: str = SCHEME) -> dict[str, dict[str, Any]]:
    """The run file's tables, as `create_run` takes them."""
    return {
        "model": {"base": str(_data() / "demo-model")},
        "dataset": {"resolution": RESOLUTION, "template": TEMPLATE},
        "embedding": {"token": TOKEN, "init": CLASS_WORD},
        "scheme": {"segments": segment_values(parse(scheme, "for").segments)},
        "save": {"every_steps": SAVE_EVERY},
        "sample": {"every_steps": SAMPLE_EVERY, "prompts": list(PROMPTS)},
    }


def demo_draft(name: str, root: Path, scheme: str = SCHEME) -> Draft:
    """The wizard's draft of a run of concept `name` at `root`, completely filled in. Raises DemoError."""
    found = concept(name)
    draft = Draft(
        photographs=str(pictures_of(name)),
        run_folder=str(root),
        class_word=CLASS_WORD,
        occasion=f"demo: {found.title.partition(':')[0]}",
    )
    for table, values in demo_values(scheme).items():
        for key, value in values.items():
            # The initial words follow from the class word.
            if (table, key) != ("embedding", "init"):
                draft.put(f"{table}.{key}", value)
    return draft


@contextlib.contextmanager
def demo_folder() -> Iterator[DemoFolder]:
    """A new temporary folder, private to the user. At the end it is removed if it is empty.

    Raises DemoError if there is no temporary folder to make it in.
    """
    try:
        path = Path(tempfile.mkdtemp(prefix=PREFIX))
    except FileNotFoundError:
        raise DemoError(
            "there is no temporary folder that can be written to",
            remedy="Free some space, or name a folder of your own: TMPDIR=~/tmp ti-tui demo",
        ) from None
    except OSError as error:
        raise cannot_write(Path(error.filename or tempfile.gettempdir()), error) from error
    folder = DemoFolder(path, settings.remember_demo(path))
    try:
        yield folder
    finally:
        try:
            path.rmdir()
            settings.forget_demos([path])
        except OSError:
            # Not empty, so it stays. `clean` may have forgotten it meanwhile.
            settings.remember_demo(path)


def clean() -> Cleaned:
    """Remove the folders that `demo_folder` made and that still exist, and forget their runs.

    Anything that does not look like such a folder is left alone, and so is one in which a trainer is working.
    """
    removed: list[tuple[Path, int]] = []
    left: list[UserError] = []
    gone: list[Path] = []
    for path in settings.known_demos():
        if not os.path.lexists(path):
            gone.append(path)
        elif reason := _reason_to_leave(path):
            left.append(reason)
        else:
            size = _size_bytes(path)
            try:
                shutil.rmtree(path)
            except OSError as error:
                left.append(DemoError(f"{error.filename or path} cannot be removed: {error.strerror or error}"))
                continue
            removed.append((path, size))
            gone.append(path)
    settings.forget_demos(gone)
    return Cleaned(tuple(removed), tuple(left))


def _data() -> Path:
    return Path(str(resources.files("ti_tui").joinpath("data/demo")))


def _reason_to_leave(path: Path) -> UserError | None:
    """Why a remembered folder must not be removed: the list may have been changed by hand."""
    try:
        status = path.lstat()
        is_ours = (
            path.name.startswith(PREFIX)
            and stat.S_ISDIR(status.st_mode)
            and path.parent.resolve() in _temporary_folders()
            and (not hasattr(os, "getuid") or status.st_uid == os.getuid())
        )
        if not is_ours:
            return DemoError(f"{path} is left alone: it is not a demo's temporary folder")
        for inner in sorted(path.iterdir()):
            if inner.is_dir() and RunFolder(inner).trainer() is not None:
                return DemoError(
                    f"{path} is left alone: a trainer is still working in it",
                    remedy=f"Stop it with `ti-tui stop {inner}`, then clean again.",
                )
    except OSError as error:
        return DemoError(f"{path} cannot be read: {error.strerror or error}")
    return None


def _temporary_folders() -> set[Path]:
    """Every folder that `tempfile` may use, not only the current one; works while the disk is full, too."""
    named = [os.environ.get(name, "") for name in ("TMPDIR", "TEMP", "TMP")]
    with contextlib.suppress(OSError):
        named.append(tempfile.gettempdir())
    return {Path(name).resolve() for name in (*named, *TEMPORARY) if name}


def _size_bytes(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(place) / name).lstat().st_size
    return total
