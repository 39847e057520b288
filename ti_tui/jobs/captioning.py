"""Starts the captioner's process, talks to it and puts its captions to use; commands and screens call this. No torch.

The process (`python -m ti_tui.captioning FOLDER DEVICE`) is asked by lines of JSON on its stdin and answers by lines on
its stdout; closing the pipe ends it, and with it goes all of its memory. Nothing here waits but `next` on messages and
`Captioner.wait`, so a thread of a screen can read the messages while the screen cancels and closes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ti_tui.captions.models import CaptionerError, CaptionerModel
from ti_tui.dataset.caption_text import CaptionRules, clean_caption, words_of_name
from ti_tui.settings import state_folder

Device = Literal["auto", "cpu", "cuda"]
END_SECONDS = 3.0
"""How long a worker may take to end by itself before it is killed."""
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""What the worker's environment says beside ours: nothing is fetched, nothing but captions is written."""


@dataclass(frozen=True)
class Loaded:
    """The captioner is ready. device: in words."""

    device: str
    seconds: float


@dataclass(frozen=True)
class Captioned:
    """A picture has a caption. seconds: what it took; done of total: pictures dealt with, failed ones too."""

    name: str
    caption: str
    seconds: float
    done: int
    total: int
    seconds_left: float


@dataclass(frozen=True)
class CaptionFailed:
    """A picture could not be captioned; the others go on."""

    name: str
    reason: str
    done: int
    total: int


@dataclass(frozen=True)
class Said:
    """Something that people should know, such as that the card's memory was too small."""

    text: str


@dataclass(frozen=True)
class CaptioningFinished:
    """The last message of every job. reason and remedy: of an outcome "failed"."""

    outcome: Literal["done", "cancelled", "failed"]
    captioned: int = 0
    failed: int = 0
    reason: str = ""
    remedy: str = ""

    def raise_if_failed(self) -> None:
        """Raises CaptionerError if the captioner itself failed; single pictures that did are no error."""
        if self.outcome == "failed":
            raise CaptionerError(self.reason, remedy=self.remedy)


CaptionerMessage = Loaded | Captioned | CaptionFailed | Said | CaptioningFinished
Messages = Generator[CaptionerMessage, None, None]
Engine = Callable[[Mapping[str, Path], str], Messages]
"""Captions pictures (files by name), beginning with first words: `Captioner.caption`, `caption_by_names`."""


def worker_command(model: CaptionerModel, device: Device) -> list[str]:
    """The command line of the captioner's process."""
    # -P: nothing that lies in the current folder may be imported.
    return [sys.executable, "-P", "-m", "ti_tui.captioning", str(model.path.absolute()), device]


class Captioner:
    """A captioner in a process of its own. Made by `start`; a context manager that closes it.

    One job at a time: `caption` gives its messages, and asking for another cancels the one before. The model stays
    loaded between jobs, until `close`.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._writing = threading.Lock()
        self._jobs = itertools.count(1)
        self._job = 0
        self._closed = False
        self._refused: dict[str, Any] | None = None
        threading.Thread(target=self._read, name="captioner", daemon=True).start()

    @classmethod
    def start(cls, model: CaptionerModel, *, device: Device = "auto", log: Path | None = None) -> Captioner:
        """Start the process; it loads the model while this returns. Raises CaptionerError if it cannot be started.

        log: what the libraries print goes there; by default to captioner.log among the program's own files.
        """
        log = log or state_folder() / "captioner.log"
        try:
            with contextlib.ExitStack() as stack:
                return cls(
                    subprocess.Popen(
                        worker_command(model, device),
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=_opened(log, stack),
                        env={**os.environ, **OFFLINE},
                        # A session of its own: Ctrl+C is for us, who then cancel it.
                        start_new_session=os.name != "nt",
                        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
                    ),
                    log,
                )
        except OSError as error:
            raise CaptionerError(f"the captioner could not be started: {error.strerror or error}") from None

    @property
    def pid(self) -> int:
        return self._process.pid

    def caption(self, pictures: Mapping[str, Path], first_words: str = "") -> Messages:
        """Ask for captions of `pictures` (files by name), in their order; the messages come as it goes.

        first_words: the captioner begins with these and goes on from them; with "" it says what it sees.
        The last message is Finished. Closing the generator early cancels the rest.
        """
        self.cancel()
        self._job = next(self._jobs)
        asked = [[name, str(path.absolute())] for name, path in pictures.items()]
        self._send({"do": "caption", "job": self._job, "pictures": asked, "first_words": first_words})
        return self._messages(self._job, len(asked))

    def cancel(self) -> None:
        """Stop the job that is going on, within a picture too; what is captioned stays so. Returns at once."""
        if self._job:
            self._send({"do": "cancel", "job": self._job})

    def close(self) -> None:
        """End the process; returns at once. A job that is going on ends as cancelled."""
        if not self._closed:
            self._closed = True
            threading.Thread(target=self._end, name="captioner's end", daemon=True).start()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the process has ended and its memory is free again; False if it has not within `seconds`."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def __enter__(self) -> Captioner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.wait()

    def _messages(self, job: int, total: int) -> Messages:
        captioned = failed = 0
        taken = 0.0
        finished = False
        try:
            while (answer := self._refused or self._answers.get()) is not None:
                kind = answer["kind"]
                if kind == "loaded":
                    yield Loaded(answer["device"], answer["seconds"])
                elif kind == "said":
                    yield Said(answer["text"])
                elif kind == "refused":
                    # Kept, as the end below is put back: it holds for whoever asks next.
                    self._refused = answer
                    finished = True
                    yield CaptioningFinished("failed", captioned, failed, answer["message"], answer["remedy"])
                    return
                elif answer["job"] != job:
                    continue
                elif kind == "finished":
                    finished = True
                    yield CaptioningFinished("cancelled" if answer["cancelled"] else "done", captioned, failed)
                    return
                elif kind == "captioned" and (text := clean_caption(answer["text"])):
                    captioned += 1
                    taken += answer["seconds"]
                    done = captioned + failed
                    left = taken / captioned * (total - done)
                    yield Captioned(answer["name"], text, answer["seconds"], done, total, left)
                else:
                    failed += 1
                    reason = answer.get("reason", "the captioner found no words for it")
                    yield CaptionFailed(answer["name"], reason, captioned + failed, total)
            self._answers.put(None)
            finished = True
            yield self._ended(captioned, failed)
        finally:
            if not finished and job == self._job:
                self.cancel()

    def _ended(self, captioned: int, failed: int) -> CaptioningFinished:
        """The last message when the process is gone without having finished the job."""
        if self._closed:
            return CaptioningFinished("cancelled", captioned, failed)
        status = self._process.wait()
        kept = f"; {captioned} captions are kept" if captioned else ""
        if status == -getattr(signal, "SIGKILL", 9):
            reason = f"the captioner was killed, probably because memory ran out{kept}"
            remedy = "Close other programs, or use a smaller captioner; then the same goes on with what is missing."
        else:
            last = _last_line(self._log)
            reason = f"the captioner stopped ({f'signal {-status}' if status < 0 else f'status {status}'}){kept}"
            remedy = f"{last} The details are in {self._log}".strip()
        return CaptioningFinished("failed", captioned, failed, reason, remedy)

    def _send(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        line = json.dumps(request).encode("ascii") + b"\n"
        # A worker that is gone is told by the end of its answers.
        with self._writing, contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as answers:
            for line in answers:
                with contextlib.suppress(ValueError):
                    self._answers.put(json.loads(line))
        self._answers.put(None)
        self._process.wait()

    def _end(self) -> None:
        assert self._process.stdin is not None
        with self._writing, contextlib.suppress(OSError):
            self._process.stdin.close()
        if not self.wait(END_SECONDS):
            self._process.kill()


def caption_by_names(pictures: Mapping[str, Path], first_words: str = "") -> Messages:
    """Captions from the files' own names, as A1111 makes them; needs no model. The messages are a captioner's."""
    captioned = failed = 0
    for name, path in pictures.items():
        if words := words_of_name(path.stem):
            captioned += 1
            yield Captioned(name, f"{first_words} {words}".strip(), 0.0, captioned + failed, len(pictures), 0.0)
        else:
            failed += 1
            yield CaptionFailed(name, "its name holds no words", captioned + failed, len(pictures))
    yield CaptioningFinished("done", captioned, failed)


def wanted(pictures: Mapping[str, Path], current: Callable[[str], str], rules: CaptionRules) -> dict[str, Path]:
    """The pictures that the rules want captioned. current: the caption of a picture as it is now, "" for none."""
    return {name: path for name, path in pictures.items() if rules.wants(current(name))}


def caption_pictures(
    engine: Engine,
    pictures: Mapping[str, Path],
    current: Callable[[str], str],
    rules: CaptionRules,
    apply: Callable[[str, str], None],
) -> Messages:
    """Caption the pictures that the rules want, and hand each picture's new caption to `apply(name, caption)`.

    current: the caption of a picture as it is now. It is asked again when the new one has come, so that what was typed
             meanwhile is not lost.
    The messages are the engine's; those of captions hold the whole new caption. What `apply` raises ends the job.
    """
    asked = wanted(pictures, current, rules)
    if not asked:
        yield CaptioningFinished("done")
        return
    with contextlib.closing(engine(asked, rules.first_words)) as messages:
        for message in messages:
            if not isinstance(message, Captioned):
                yield message
            elif rules.wants(old := current(message.name)):
                caption = rules.combined(old, message.caption)
                apply(message.name, caption)
                yield Captioned(**{**vars(message), "caption": caption})
            else:
                yield Said(f"{message.name} has got a caption meanwhile, which is kept")


def _opened(log: Path, stack: contextlib.ExitStack) -> Any:
    """The log, open and empty; where it cannot be written, nothing is kept."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return stack.enter_context(log.open("wb"))
    except OSError:
        return subprocess.DEVNULL


def _last_line(log: Path) -> str:
    """The last line of the log, as a sentence; "" if there is none."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return ""
    return f"Its last words: {lines[-1].strip()[:200]}." if lines else ""
