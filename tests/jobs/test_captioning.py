"""The captioner's process as commands and screens use it: the real process, real pictures, tiny models."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from PIL import Image

from tests.fixtures.tiny_blip import shared
from tests.fixtures.tiny_models import WORDS
from ti_tui.captions.endpoint import CaptionerError
from ti_tui.captions.models import CaptionerModel, check_captioner
from ti_tui.dataset.caption_text import CaptionRules
from ti_tui.jobs import runner
from ti_tui.jobs.captioning import (
    Captioned,
    Captioner,
    CaptionerMessage,
    CaptionFailed,
    CaptioningFinished,
    Loaded,
    Messages,
    caption_by_names,
    caption_images,
)
from ti_tui.jobs.runner import Job, ProcessNote

pytestmark = pytest.mark.usefixtures("forked_processes")
ROOT = Path(__file__).parents[2]
MANY = 400


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> CaptionerModel:
    return check_captioner(shared(tmp_path_factory))


@pytest.fixture(scope="module")
def captioner(model: CaptionerModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Captioner]:
    """One for all tests that leave it as it was, and a new process, where theirs are forked: its start is in it."""
    with Captioner.start(model, device="cpu", log=tmp_path_factory.mktemp("log") / "captioner.log") as started:
        yield started


@pytest.fixture
def pictures(photos: Path) -> dict[str, Path]:
    return {path.name: path for path in sorted(photos.glob("*.jpg"))}


def in_trouble(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start tests.fixtures.odd_captioner in the place of the captioner."""

    def command(job: Job) -> list[str]:
        return [sys.executable, "-m", "tests.fixtures.odd_captioner", how, *job.arguments]

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(runner, "command_line", command)


def many(picture: Path) -> dict[str, Path]:
    return {f"{number}.jpg": picture for number in range(MANY)}


def captions(messages: list[CaptionerMessage]) -> dict[str, str]:
    return {message.name: message.caption for message in messages if isinstance(message, Captioned)}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_each_picture_gets_a_caption_with_progress_as_it_goes(model: CaptionerModel, pictures: dict[str, Path]) -> None:
    with Captioner.start(model, device="cpu") as captioner:
        loaded, *each, finished = captioner.caption(pictures)
    assert isinstance(loaded, Loaded) and loaded.device == "the CPU" and loaded.seconds > 0
    assert finished == CaptioningFinished("done", captioned=4)
    told = [message for message in each if isinstance(message, Captioned)]
    assert [message.name for message in told] == list(pictures)
    assert [(message.done, message.total) for message in told] == [(number, 4) for number in (1, 2, 3, 4)]
    assert all(message.seconds > 0 for message in told)
    assert told[0].seconds_left > 0 and told[-1].seconds_left == 0
    assert len({message.caption for message in told}) > 1
    assert {word for message in told for word in message.caption.split()} <= set(WORDS)


def test_first_words_are_gone_on_from(captioner: Captioner, pictures: dict[str, Path]) -> None:
    plain = captions(list(captioner.caption(pictures)))
    begun = captions(list(captioner.caption(pictures, "a photo of")))
    assert all(text.startswith("a photo of ") for text in begun.values())
    assert {name: text.removeprefix("a photo of ") for name, text in begun.items()} != plain


def test_the_same_picture_gets_the_same_caption_upright(captioner: Captioner, photos: Path, tmp_path: Path) -> None:
    upright, turned = tmp_path / "upright.png", tmp_path / "turned.png"
    with Image.open(photos / "coffee.jpg") as image:
        image.save(upright)
        exif = Image.Exif()
        # 6: the top of the picture lies at the right of the file.
        exif[0x0112] = 6
        image.rotate(90, expand=True).save(turned, exif=exif)
    made = captions(list(captioner.caption({"upright": upright, "turned": turned})))
    assert made["upright"] == made["turned"]


def test_a_bad_picture_is_said_and_the_others_go_on(captioner: Captioner, photos: Path, tmp_path: Path) -> None:
    good = photos / "coffee.jpg"
    (tmp_path / "page.jpg").write_text("<html>")
    (tmp_path / "cut.jpg").write_bytes(good.read_bytes()[:3000])
    os.mkfifo(tmp_path / "pipe.jpg")
    names = ("page.jpg", "cut.jpg", "pipe.jpg", "gone.jpg")
    asked = {name: tmp_path / name for name in names} | {"good.jpg": good}
    *each, finished = captioner.caption(asked)
    failed = {message.name: message.reason for message in each if isinstance(message, CaptionFailed)}
    assert list(failed) == list(names) and list(captions(each)) == ["good.jpg"]
    for name, words in zip(
        names, ("starts like HTML", "truncated", "not a regular file", "no longer exists"), strict=True
    ):
        assert words in failed[name]
    assert finished == CaptioningFinished("done", captioned=1, failed=4)


def test_names_of_any_bytes_go_there_and_back(captioner: Captioner, photos: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b'caf\xe9 "\n.jpg')
    shutil.copy(photos / "coffee.jpg", tmp_path / name)
    assert list(captions(list(captioner.caption({name: tmp_path / name})))) == [name]


def test_cancelling_keeps_what_is_done_and_the_captioner_goes_on_with_the_next(
    captioner: Captioner, photos: Path
) -> None:
    done: list[CaptionerMessage] = []
    for message in captioner.caption(many(photos / "coffee.jpg")):
        done.append(message)
        if len(captions(done)) == 3:
            captioner.cancel()
    assert isinstance(done[-1], CaptioningFinished) and done[-1].outcome == "cancelled"
    assert 3 <= done[-1].captioned == len(captions(done)) < MANY
    *_, finished = captioner.caption({"again.jpg": photos / "coffee.jpg"})
    assert finished == CaptioningFinished("done", captioned=1)


def test_leaving_the_messages_cancels_the_rest(captioner: Captioner, photos: Path) -> None:
    messages = captioner.caption(many(photos / "coffee.jpg"))
    next(messages)
    messages.close()
    began = time.monotonic()
    *_, finished = captioner.caption({"again.jpg": photos / "coffee.jpg"})
    assert finished == CaptioningFinished("done", captioned=1) and time.monotonic() - began < 5


def test_a_picture_is_left_in_its_middle(
    model: CaptionerModel, pictures: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_trouble("slow", monkeypatch)
    with Captioner.start(model, device="cpu") as captioner:
        messages = captioner.caption(pictures, "a photo of")
        assert isinstance(next(messages), Loaded)
        time.sleep(0.5)
        began = time.monotonic()
        captioner.cancel()
        assert list(messages) == [CaptioningFinished("cancelled")]
        assert time.monotonic() - began < 2


def test_a_job_is_cancelled_while_the_model_is_loading(model: CaptionerModel, pictures: dict[str, Path]) -> None:
    with Captioner.start(model, device="cpu") as captioner:
        messages = captioner.caption(pictures)
        captioner.cancel()
        assert list(messages) == [CaptioningFinished("cancelled")]
        loaded, *_, finished = captioner.caption(pictures)
        assert isinstance(loaded, Loaded) and finished == CaptioningFinished("done", captioned=4)


def test_cancel_and_close_come_back_at_once_and_close_frees_the_memory(model: CaptionerModel, photos: Path) -> None:
    captioner = Captioner.start(model, device="cpu")
    messages = captioner.caption(many(photos / "coffee.jpg"))
    next(messages), next(messages)
    began = time.monotonic()
    captioner.cancel()
    captioner.close()
    captioner.close()
    assert time.monotonic() - began < 0.1
    assert captioner.wait(5) and not alive(captioner.pid)
    assert [message.outcome for message in messages if isinstance(message, CaptioningFinished)] == ["cancelled"]


def test_a_killed_captioner_is_told_in_words_with_what_is_kept(model: CaptionerModel, photos: Path) -> None:
    captioner = Captioner.start(model, device="cpu")
    done: list[CaptionerMessage] = []
    for message in captioner.caption(many(photos / "coffee.jpg")):
        done.append(message)
        if len(done) == 4:
            os.kill(captioner.pid, signal.SIGKILL)
    finished = done[-1]
    assert isinstance(finished, CaptioningFinished) and finished.outcome == "failed"
    assert "was killed, probably because memory ran out" in finished.reason
    assert f"{len(captions(done))} captions are kept" in finished.reason and "smaller captioner" in finished.remedy
    with pytest.raises(CaptionerError, match="was killed"):
        finished.raise_if_failed()
    assert [message.outcome for message in captioner.caption({}) if isinstance(message, CaptioningFinished)] == [
        "failed"
    ]
    captioner.close()


@pytest.mark.parametrize("when", ["loading", "captioning"])
def test_the_captioner_ends_with_its_parent(model: CaptionerModel, photos: Path, when: str) -> None:
    parent_of_one = [sys.executable, "-m", "tests.fixtures.captioner_parent"]
    command = [*parent_of_one, str(model.path), str(photos / "coffee.jpg"), when]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
        parent.wait()
        assert until(lambda: not alive(pid))


def test_a_damaged_folder_is_said_before_anything_is_loaded(model: CaptionerModel, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model.path, tmp_path / "blip"))
    looked_at = check_captioner(folder)
    (folder / "tokenizer.json").unlink()
    with Captioner.start(looked_at, device="cpu") as captioner:
        (finished,) = captioner.caption({})
        assert isinstance(finished, CaptioningFinished) and "lacks tokenizer.json" in finished.reason
        assert "Copy the whole folder again" in finished.remedy
        # Whoever asks next is told the same.
        assert list(captioner.caption({})) == [finished]


def test_a_captioner_that_cannot_start_is_said(model: CaptionerModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "command_line", lambda *_: ["/nowhere/python"])
    with pytest.raises(CaptionerError, match="could not be started"):
        Captioner.start(model)


def test_a_mistake_in_the_captioner_is_said_with_its_log(
    model: CaptionerModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", "print('noise'); raise ValueError('of the library')"]
    monkeypatch.setattr(runner, "command_line", lambda *_: command)
    log = tmp_path / "captioner.log"
    with Captioner.start(model, log=log) as captioner:
        (finished,) = captioner.caption({})
    assert isinstance(finished, CaptioningFinished) and finished.reason == "the captioner stopped (status 1)"
    assert "ValueError: of the library" in finished.remedy and str(log) in finished.remedy


def test_with_little_memory_it_goes_on_with_less_and_says_so_once(
    model: CaptionerModel, pictures: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_trouble("short", monkeypatch)
    with Captioner.start(model, device="cpu") as captioner:
        messages = list(captioner.caption(pictures))
    assert len(captions(messages)) == 4
    (said,) = (message.text for message in messages if isinstance(message, ProcessNote))
    assert "memory ran out" in said


def test_with_no_memory_at_all_it_ends_with_words(
    model: CaptionerModel, pictures: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_trouble("hungry", monkeypatch)
    with Captioner.start(model, device="cpu") as captioner:
        *_, finished = captioner.caption(pictures)
    assert isinstance(finished, CaptioningFinished) and finished.outcome == "failed"
    assert "not enough memory for BLIP" in finished.reason and "smaller one" in finished.remedy


def test_a_picture_that_the_model_fails_on_costs_no_other(
    model: CaptionerModel, pictures: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_trouble("broken", monkeypatch)
    with Captioner.start(model, device="cpu") as captioner:
        *each, finished = captioner.caption(pictures)
    assert finished == CaptioningFinished("done", captioned=2, failed=2)
    assert [message.reason for message in each if isinstance(message, CaptionFailed)] == [
        "the captioner failed on it: a library's error"
    ] * 2


def test_messages_are_read_in_a_thread_while_others_cancel(captioner: Captioner, photos: Path) -> None:
    done: list[CaptionerMessage] = []
    thread = threading.Thread(target=lambda: done.extend(captioner.caption(many(photos / "coffee.jpg"))))
    thread.start()
    time.sleep(1)
    captioner.cancel()
    thread.join(30)
    assert not thread.is_alive() and isinstance(done[-1], CaptioningFinished) and done[-1].outcome == "cancelled"


def test_talking_to_it_loads_no_torch_here(model: CaptionerModel, photos: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from ti_tui.captions.models import check_captioner;"
        "from ti_tui.jobs.captioning import Captioner\n"
        f"with Captioner.start(check_captioner(Path({str(model.path)!r})), device='cpu') as captioner:\n"
        f"    print(len(list(captioner.caption({{'a': Path({str(photos / 'coffee.jpg')!r})}}))))\n"
        "print(*{'torch', 'transformers', 'textual'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["3"]


def test_names_become_captions_without_a_model(tmp_path: Path) -> None:
    asked = {name: tmp_path / name for name in ("01_red_coat.jpg", "0002.jpg")}
    assert list(caption_by_names(asked, "a photo of")) == [
        Captioned("01_red_coat.jpg", "a photo of red coat", 0.0, 1, 2, 0.0),
        CaptionFailed("0002.jpg", "its file name has no words", 2, 2),
        CaptioningFinished("done", captioned=1, failed=1),
    ]


def says(*texts: str) -> Callable[[Mapping[str, Path], str], Messages]:
    """An engine that says these texts, one a picture."""

    def engine(asked: Mapping[str, Path], first_words: str) -> Messages:
        for number, (name, text) in enumerate(zip(asked, texts, strict=True), start=1):
            yield Captioned(name, f"{first_words} {text}".strip(), 1.0, number, len(asked), 0.0)
        yield CaptioningFinished("done", captioned=len(asked))

    return engine


ASKED = {"a.jpg": Path("a.jpg"), "b.jpg": Path("b.jpg")}


def test_captions_come_one_by_one_as_the_rules_say() -> None:
    draft = {"a.jpg": "", "b.jpg": "an old one"}
    rules = CaptionRules("append", prefix="studio light,", first_words="a photo of")
    messages = caption_images(says("a cat", "a dog"), ASKED, draft.__getitem__, rules, draft.__setitem__)
    first = next(messages)
    assert draft == {"a.jpg": "studio light, a photo of a cat", "b.jpg": "an old one"}
    assert isinstance(first, Captioned) and first.caption == draft["a.jpg"]
    list(messages)
    assert draft["b.jpg"] == "studio light, an old one, a photo of a dog"


def test_only_pictures_without_a_caption_are_asked_for_by_default() -> None:
    draft = {"a.jpg": "", "b.jpg": "an old one"}
    messages = list(caption_images(says("a cat"), ASKED, draft.__getitem__, CaptionRules(), draft.__setitem__))
    assert draft == {"a.jpg": "a cat", "b.jpg": "an old one"} and messages[-1] == CaptioningFinished(
        "done", captioned=1
    )
    again = list(caption_images(says(), ASKED, draft.__getitem__, CaptionRules(), draft.__setitem__))
    assert again == [CaptioningFinished("done")]


def test_a_caption_typed_meanwhile_is_kept() -> None:
    draft = {"a.jpg": "", "b.jpg": ""}
    messages = caption_images(says("a cat", "a dog"), ASKED, draft.__getitem__, CaptionRules(), draft.__setitem__)
    next(messages)
    draft["b.jpg"] = "typed"
    assert isinstance(next(messages), ProcessNote)
    list(messages)
    assert draft == {"a.jpg": "a cat", "b.jpg": "typed"}


def test_a_caption_that_cannot_be_kept_stops_the_captioner(captioner: Captioner, photos: Path) -> None:
    def full(_name: str, _caption: str) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        list(caption_images(captioner.caption, many(photos / "coffee.jpg"), lambda _: "", CaptionRules(), full))
    *_, finished = captioner.caption({"again.jpg": photos / "coffee.jpg"})
    assert finished == CaptioningFinished("done", captioned=1)
