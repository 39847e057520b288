"""Checks of what a run finds here: the device, packages, its folder and the disk. No torch."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
from pathlib import Path

from ti_tui.dataset.scan import Scan
from ti_tui.paths import existing_part
from ti_tui.run.folder import RunFolder
from ti_tui.run.hardware import missing_card
from ti_tui.run.model import ModelFacts
from ti_tui.run.problems import Problems
from ti_tui.run.recipe import RunFile

KEEP_FREE_BYTES = 50 * 10**6
SYSTEM_FOLDERS = (Path("/proc"), Path("/sys"), Path("/dev"))
MEMORY_DISK = Path("/dev/shm")
RUN_FOLDER = "run_folder"
"""The field of problems with the run folder itself, which is not a field of the run file."""


def check_machine(run: RunFile, problems: Problems) -> None:
    """Check the device and the packages that the run file names."""
    device = run.training.device
    if device.startswith("cuda") and (missing := missing_card(device)):
        problems.error(
            f"{device} cannot be used: {missing}", field="training.device",
            remedy="Write auto or cpu; `ti-tui doctor` says what is here.",
        )  # fmt: skip
    if run.training.attention == "xformers" and importlib.util.find_spec("xformers") is None:
        problems.error(
            "xformers is not installed",
            field="training.attention",
            remedy="pip install ti_tui[xformers], or use sdpa.",
        )


def check_folder(folder: RunFolder, need: int, problems: Problems) -> None:
    """Check that a run can write `need` bytes into its folder, and that nobody else can.

    The folder may not exist yet; then its parent is checked.
    """
    if system := _system_folder(folder.root):
        problems.error(f"no run can be kept in {system}", field=RUN_FOLDER, remedy="Choose a folder on a disk.")
        return
    place = existing_part(folder.root)
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        remedy = "Copy the run to a folder of your own." if folder.file.exists() else "Choose another folder."
        problems.error(f"{place} cannot be written to", field="" if folder.file.exists() else RUN_FOLDER, remedy=remedy)
        return
    free = shutil.disk_usage(place).free
    if free < need + KEEP_FREE_BYTES:
        problems.error(
            f"the run needs about {(need + KEEP_FREE_BYTES) / 1e6:.0f} MB,"
            f" but only {free / 1e6:.0f} MB are free in {folder.root}",
            remedy="Free some space, or save less often.",
        )
    if _anyone_may_write(folder):
        problems.warning(
            f"every user of this machine may change or delete what is in {folder.root}",
            remedy="To forbid it: chmod -R o-w on that folder.",
        )


def _system_folder(root: Path) -> Path | None:
    """The folder of the operating system that `root` lies in, where files are not files."""
    try:
        path = root.resolve()
    except (OSError, RuntimeError):
        return None
    if path.is_relative_to(MEMORY_DISK):
        return None
    return next((folder for folder in SYSTEM_FOLDERS if path.is_relative_to(folder)), None)


def _anyone_may_write(folder: RunFolder) -> bool:
    if os.name == "nt":
        return False
    try:
        mode, file_mode = folder.root.stat().st_mode, folder.file.stat().st_mode
    except OSError:
        return False
    # On a disk without permissions (exFAT, a Windows drive) everything looks open, and executable, and stays so.
    return bool(mode & stat.S_IWOTH) and not file_mode & stat.S_IXUSR


def disk_need(run: RunFile, pictures: Scan | None, facts: ModelFacts | None) -> int:
    """About how many bytes a run will write: latents, checkpoints with optimizer state, exports, samples."""
    images = len(pictures.pictures) if pictures else 0
    latents = images * 2 * 4 * 4 * (run.dataset.resolution // 8) ** 2 * (2 if run.dataset.flip else 1)
    total = run.scheme.scheme().total_steps
    saves = (total // run.save.every_steps if run.save.every_steps else 0) + 1
    kept = min(saves, run.save.keep) if run.save.keep else saves
    width = sum(facts.widths) if facts else 2048
    checkpoint = run.embedding.vectors * width * 4 * (3 + len(run.save.formats)) + 12_000
    samples = (total // run.sample.every_steps if run.sample.every_steps else 0) * len(run.sample.prompts)
    picture = int(run.dataset.resolution**2 * 1.8)
    return latents * (run.training.cache_latents == "disk") + kept * checkpoint + samples * picture
