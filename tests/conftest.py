"""What the tests share: tiny real models made once, real photographs, and runs made and trained in this process."""

from __future__ import annotations

import gc
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import hypothesis
import pytest
from filelock import FileLock
from PIL import Image

from ti_tui.embeddings import files
from ti_tui.embeddings.files import Embedding
from ti_tui.run.folder import RunFolder
from ti_tui.setup.create import create_run

# Shared machines stall now and then; how long one example takes is no property of the code.
hypothesis.settings.register_profile("ours", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("ours")
# For tools.mutation, which runs a test hundreds of times and is to come to the same figures each time.
hypothesis.settings.register_profile(
    "mutation", hypothesis.settings.get_profile("ours"), max_examples=20, derandomize=True, database=None
)


LONG = ("test_whole_way.py", "test_demo_model.py")
"""Files with tests of half a minute: they begin first, so that no worker is left alone with one at the end."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-snapshots",
        action="store_true",
        help="keep the screens as they are now in tests/snapshots, as pictures and as text, instead of comparing them",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--update-snapshots"):
        # See tests/screens/driving.py, which is called from within the app and has no `config`.
        os.environ["TI_TUI_UPDATE_SNAPSHOTS"] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONG)


def pytest_collection_finish() -> None:
    """What was imported stays: no collection need look through all the objects of torch again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the user's own settings, caches or list of runs."""
    for name in ("CONFIG", "CACHE", "STATE"):
        monkeypatch.setenv(f"TI_TUI_{name}", str(tmp_path / f"own-{name.lower()}"))


@pytest.fixture
def forked_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every `python -m MODULE` is forked from the tests' process, without its start-up (see tests.fixtures.forked)."""
    from tests.fixtures import forked

    monkeypatch.setattr(subprocess, "Popen", forked.Popen)


@pytest.fixture
def new_processes(forked_processes: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a file of forked processes: this test's are new ones, since it is about their start-up."""
    from tests.fixtures import forked

    monkeypatch.setattr(subprocess, "Popen", forked.Started)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Paths of the tiny models by name (see tests.fixtures.tiny_models), made once for all workers."""
    from tests.fixtures.tiny_models import make_all

    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "tiny-models"
    with FileLock(f"{shared}.lock"):
        if not (shared / "made").exists():
            shared.mkdir(parents=True)
            make_all(shared)
            (shared / "made").touch()
    names = ["sd1", "sd2-v", "sdxl", "sd1.safetensors", "sd1.ckpt", "sd2-v.safetensors", "sdxl.safetensors"]
    return {name: shared / name for name in names}


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four real photographs (scikit-image's), one of them with a caption."""
    import skimage.data

    folder = tmp_path_factory.mktemp("photos")
    for name in ("astronaut", "coffee", "chelsea", "rocket"):
        Image.fromarray(getattr(skimage.data, name)()).save(folder / f"{name}.jpg", quality=92)
    (folder / "coffee.txt").write_text("a cup on a table")
    return folder


MakeRun = Callable[..., RunFolder]


@pytest.fixture
def make_run(tmp_path: Path, models: dict[str, Path], photos: Path) -> MakeRun:
    """Makes a small run: `make_run(model="sd1", name="run", scheme="0.01:6", **{"table.field": value})`."""

    def make(
        model: str = "sd1", *, name: str = "run", scheme: str = "0.01:6", images: Path | None = None, **settings: Any
    ) -> RunFolder:
        from ti_tui.run.scheme import parse

        values: dict[str, dict[str, Any]] = {
            "model": {"base": str(models[model])},
            "dataset": {"resolution": 64},
            "embedding": {"token": "zkz", "init": "woman", "vectors": 2},
            "training": {"batch_size": 4, "device": "cpu"},
            "save": {"every_steps": 3},
            "sample": {"every_steps": 0},
            "scheme": {
                "segments": [
                    {"learning_rate": part.learning_rate, "steps": part.steps} for part in parse(scheme, "for").segments
                ]
            },
        }
        if not (models[model].is_dir()):
            values["model"]["tokenizer"] = str(models["sd1"] / "tokenizer")
        for key, value in settings.items():
            table, field = key.split(".")
            values.setdefault(table, {})[field] = value
        return create_run(tmp_path / name, images or photos, values).folder

    return make


@pytest.fixture
def train() -> Iterator[Callable[..., int]]:
    """Trains a run in this process as the trainer's own process would; returns the exit status."""

    def run(folder: RunFolder, *, stop: threading.Event | None = None) -> int:
        from ti_tui.training.__main__ import train as trainer_main
        from ti_tui.training.reporter import Reporter

        with folder.lock():
            folder.create()
            return trainer_main(folder, Reporter(folder), stop or threading.Event())

    yield run


def result(folder: RunFolder, step: int | None = None) -> Embedding:
    """The embedding of a run, final or at a step."""
    return files.read(folder.embedding("zkz", step))


def edit(folder: RunFolder, old: str, new: str) -> None:
    """Change the run file as a person would, in an editor."""
    text = folder.file.read_text()
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the run file"
    folder.file.write_text(text.replace(old, new))
