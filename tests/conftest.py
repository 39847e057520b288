"""What the tests share: tiny real models made once, real photographs, and runs made and trained in this process."""

from __future__ import annotations

import datetime
import gc
import hashlib
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import hypothesis
import pytest
from filelock import FileLock
from PIL import Image

from ti_tui.dataset.survey import SurveyCache
from ti_tui.embeddings import files
from ti_tui.embeddings.files import Embedding
from ti_tui.run.folder import RunFolder
from ti_tui.setup.create import create_run

if TYPE_CHECKING:
    from tests.fixtures.bad_pictures import Bad

# Shared machines stall now and then; how long one example takes is no property of the code.
hypothesis.settings.register_profile(
    "ours", max_examples=50, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("ours")
hypothesis.settings.register_profile("exhaustive", hypothesis.settings.get_profile("ours"), max_examples=500)
# For tools.mutation, which runs a test hundreds of times and is to come to the same figures each time.
hypothesis.settings.register_profile(
    "mutation", hypothesis.settings.get_profile("ours"), max_examples=20, derandomize=True, database=None
)


DAY = "TI_TUI_TEST_DAY"
"""The day of which the cases of `sampled` tests are run; today unless it is set."""
LOCKED = "locked.jpg"
"""Among the bad pictures; only whoever may read it can copy it."""
LONG = ("test_whole_way.py", "test_demo_model.py")
"""Files with tests of half a minute: they begin first, so that no worker is left alone with one at the end."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-snapshots",
        action="store_true",
        help="keep the screens as they are now in tests/snapshots, as pictures and as text, instead of comparing them",
    )

    parser.addoption(
        "--exhaustive",
        action="store_true",
        help="run every case of the tests that are marked `sampled`, and ten times as many examples of the others",
    )


def pytest_configure(config: pytest.Config) -> None:
    # All workers draw the same cases, also at midnight.
    os.environ.setdefault(DAY, datetime.date.today().isoformat())
    if config.getoption("--exhaustive"):
        hypothesis.settings.load_profile("exhaustive")
    if config.getoption("--update-snapshots"):
        # See tests/screens/driving.py, which is called from within the app and has no `config`.
        os.environ["TI_TUI_UPDATE_SNAPSHOTS"] = "1"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # Whoever asks for a case by its name gets it.
    if not config.getoption("--exhaustive") and not any("[" in asked for asked in config.args):
        left_out = not_of_the_day(items)
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=list(left_out))
    items.sort(key=lambda item: item.path.name not in LONG)


def not_of_the_day(items: list[pytest.Item]) -> set[pytest.Item]:
    """The cases that are not run today, of tests marked `sampled(COUNT)`: each day it is the next COUNT cases' turn."""
    cases: dict[str, list[pytest.Item]] = {}
    counts: dict[str, int] = {}
    for item in items:
        if (marker := item.get_closest_marker("sampled")) is not None:
            test = item.nodeid.partition("[")[0]
            cases.setdefault(test, []).append(item)
            (counts[test],) = marker.args
    left_out: set[pytest.Item] = set()
    for test, all_of_it in cases.items():
        first = datetime.date.fromisoformat(os.environ[DAY]).toordinal() * counts[test]
        left_out |= {*all_of_it} - {all_of_it[(first + place) % len(all_of_it)] for place in range(counts[test])}
    return left_out


def pytest_collection() -> None:
    """What is imported now stays: nothing of it is to be looked through for garbage, now or later."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


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
def of_all_workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what is made once for all workers, under a lock."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base


@pytest.fixture(scope="session")
def models(of_all_workers: Path) -> dict[str, Path]:
    """Paths of the tiny models by name (see tests.fixtures.tiny_models)."""
    from tests.fixtures.tiny_models import make_all

    shared = of_all_workers / "tiny-models"
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


@pytest.fixture(scope="session")
def bad_pictures_once(of_all_workers: Path) -> tuple[Path, list[Bad]]:
    from tests.fixtures import bad_pictures

    folder, listed = of_all_workers / "bad-pictures", of_all_workers / "bad-pictures.json"
    with FileLock(f"{folder}.lock"):
        if not listed.exists():
            made = bad_pictures.make(folder)
            if (locked := folder / LOCKED).exists():
                locked.chmod(0o600)
            listed.write_text(json.dumps([asdict(one) for one in made]))
    return folder, [bad_pictures.Bad(**one) for one in json.loads(listed.read_text())]


@pytest.fixture(scope="session")
def make_bad_pictures(bad_pictures_once: tuple[Path, list[Bad]]) -> Callable[[Path], list[Bad]]:
    """Fills a new folder with pictures of every bad kind (see tests.fixtures.bad_pictures); returns what they are."""
    made, known = bad_pictures_once

    def make(folder: Path) -> list[Bad]:
        # Pipes and links are among them, which shutil would follow.
        subprocess.run(["cp", "-a", made, folder], check=True)
        if (locked := folder / LOCKED).exists():
            locked.chmod(0)
        return known

    return make


MakeRun = Callable[..., RunFolder]


@pytest.fixture(scope="session")
def measured() -> SurveyCache:
    """What was found about photographs that are used in many tests: each is searched for faces once."""
    return {}


@pytest.fixture
def make_run(tmp_path: Path, models: dict[str, Path], photos: Path, measured: SurveyCache) -> MakeRun:
    """Makes a small run: `make_run(model="sd1", name="run", scheme="0.01:6", **{"table.field": value})`.

    Unlike a user's, it has no samples and no evaluations, which take longer than its steps.
    """

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
            "evaluation": {"every_steps": 0},
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
        return create_run(tmp_path / name, images or photos, values, memory=measured).folder

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


@pytest.fixture
def trained(of_all_workers: Path, tmp_path: Path, make_run: MakeRun, train: Callable[..., int]) -> MakeRun:
    """As `make_run`, but trained: once for all tests that ask for the same run. Each of them has a copy of its own.

    To be called before anything of the trainer is replaced.
    """

    def get(model: str = "sd1", *, name: str = "run", **given: Any) -> RunFolder:
        kept = of_all_workers / f"trained-{hashlib.sha256(repr((model, sorted(given.items()))).encode()).hexdigest()}"
        with FileLock(f"{kept}.lock"):
            if not kept.exists():
                folder = make_run(model, name=kept.name, **given)
                assert train(folder) == 0
                folder.root.rename(kept)
        return RunFolder(shutil.copytree(kept, tmp_path / name))

    return get


def result(folder: RunFolder, step: int | None = None) -> Embedding:
    """The embedding of a run, final or at a step."""
    return files.read(folder.embedding("zkz", step))


def edit(folder: RunFolder, old: str, new: str) -> None:
    """Change the run file as a person would, in an editor."""
    text = folder.file.read_text()
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the run file"
    folder.file.write_text(text.replace(old, new))
