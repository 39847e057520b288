"""A captioner behind an address: the chat form of OpenAI, which ollama, llama.cpp, vLLM and LM Studio speak too.

It has the messages and methods of `captioning.Captioner`, so that commands and screens use either. Images leave this
machine unless the address is of this machine: `Endpoint.is_here` says so, and who calls asks first.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import http.client
import io
import json
import os
import queue
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ti_tui import bounded
from ti_tui.captions.endpoint import KEY, Endpoint
from ti_tui.dataset.caption_text import clean_caption
from ti_tui.dataset.crop import load_reduced
from ti_tui.dataset.picture_file import DatasetError
from ti_tui.formatting import printable
from ti_tui.jobs.captioning import Captioned, CaptionFailed, CaptioningFinished, Messages

INSTRUCTION = (
    "Describe this image in one line of plain English for training an image model. Say what varies from image to "
    "image: pose, expression, clothes, light, background, framing. Do not name or describe {subject} itself, use no "
    "names, and do not begin with 'the image'. Answer with the line only."
)
"""What the captioner is told; {subject} becomes the class word."""
LONG_SIDE = 1024
SECONDS = 180.0
"""For one answer: a large model on a processor takes minutes."""
MOST_SECONDS = 900.0
"""For all tries at one image: a server can send a byte now and then for ever."""
TRIES = 4
LARGEST_ANSWER = 1 << 20
MOST_WAIT = 60.0
PARALLEL = 2
_THOUGHT = re.compile(r"(?s)<think>.*?(</think>|$)")
_BUSY = {408, 409, 425, 429, 500, 502, 503, 504}


class _Hopeless(Exception):
    """The endpoint will not answer any request: wrong address, key or model."""


class EndpointCaptioner:
    """Captions images by requests to an endpoint, a few at a time."""

    def __init__(
        self, endpoint: Endpoint, *, subject: str = "", instruction: str = INSTRUCTION, parallel: int = PARALLEL
    ) -> None:
        self.endpoint = endpoint
        self._instruction = instruction.replace("{subject}", subject.strip() or "the subject")
        self._parallel = max(1, parallel)
        self._cancelled = threading.Event()
        self.tokens = 0

    def caption(self, images: Mapping[str, Path], first_words: str = "") -> Messages:
        """Request captions of `images` (files by name); yields messages as they arrive, CaptioningFinished last."""
        self._cancelled = cancelled = threading.Event()
        waiting: queue.SimpleQueue[tuple[str, Path]] = queue.SimpleQueue()
        for item in images.items():
            waiting.put(item)
        results: queue.SimpleQueue[tuple[str, str | Exception]] = queue.SimpleQueue()
        asked: dict[str, float] = {}

        def work() -> None:
            while not cancelled.is_set():
                try:
                    name, path = waiting.get_nowait()
                except queue.Empty:
                    return
                asked[name] = time.monotonic()
                try:
                    results.put((name, self._ask(path, first_words, cancelled)))
                except Exception as error:
                    results.put((name, error))

        def start() -> None:
            # Nothing waits for them: a server that keeps a connection open must not keep the program.
            threading.Thread(target=work, name="endpoint", daemon=True).start()

        captioned = failed = 0
        total, done = len(images), set[str]()
        began = time.monotonic()
        for _ in range(min(self._parallel, total)):
            start()
        try:
            while len(done) < total and not cancelled.is_set():
                try:
                    name, outcome = results.get(timeout=0.1)
                except queue.Empty:
                    late = [name for name, at in list(asked.items()) if time.monotonic() - at > MOST_SECONDS]
                    if not (late := [name for name in late if name not in done]):
                        continue
                    name, outcome = late[0], RuntimeError(f"no answer within {MOST_SECONDS:g} s")
                    start()
                if name in done:
                    # It was given up.
                    continue
                if isinstance(outcome, _Hopeless):
                    kept = f"; {captioned} captions are kept" if captioned else ""
                    yield CaptioningFinished("failed", captioned, failed, f"{outcome}{kept}", self._remedy())
                    return
                done.add(name)
                if isinstance(outcome, str):
                    captioned += 1
                    left = (time.monotonic() - began) / len(done) * (total - len(done))
                    yield Captioned(name, outcome, time.monotonic() - asked[name], len(done), total, left)
                else:
                    failed += 1
                    yield CaptionFailed(name, str(outcome), len(done), total)
            yield CaptioningFinished("cancelled" if cancelled.is_set() else "done", captioned, failed)
        finally:
            cancelled.set()

    def cancel(self) -> None:
        """Stop after what was received; returns immediately."""
        self._cancelled.set()

    def close(self) -> None:
        self.cancel()

    def wait(self, seconds: float | None = None) -> bool:
        """There is no process to wait for."""
        return True

    def _remedy(self) -> str:
        return f"Check the address, the model's name and ${KEY}. Models there: GET {self.endpoint.url}/models."

    def _ask(self, path: Path, first_words: str, cancelled: threading.Event) -> str:
        """The caption of one image. Raises _Hopeless, or another exception whose text says what is wrong with it."""
        body = self._body(path, first_words)
        for attempt in range(TRIES):
            if cancelled.is_set():
                raise RuntimeError("was cancelled")
            try:
                text = self._caption_in(
                    _post(f"{self.endpoint.url}/chat/completions", body, direct=self.endpoint.is_here)
                )
            except urllib.error.HTTPError as error:
                said = _reason(error)
                if error.code in {401, 403, 404}:
                    raise _Hopeless(f"{self.endpoint.host} answers {error.code}: {said}") from None
                if error.code not in _BUSY or attempt == TRIES - 1:
                    raise RuntimeError(f"the endpoint answered {error.code}: {said}") from None
                cancelled.wait(_wait_of(error, attempt))
                continue
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", error)
                if attempt == TRIES - 1:
                    # One image may be too much for a slow model; a host that cannot be reached fails for all.
                    slow = isinstance(reason, TimeoutError | http.client.HTTPException)
                    message = f"no answer from {self.endpoint.host}: {printable(str(reason) or type(reason).__name__)}"
                    raise (RuntimeError if slow else _Hopeless)(message) from None
                cancelled.wait(2.0**attempt / 2)
                continue
            if text:
                return f"{first_words} {text}".strip() if first_words and not text.startswith(first_words) else text
        raise RuntimeError("the endpoint gave no text for it")

    def _body(self, path: Path, first_words: str) -> dict[str, Any]:
        try:
            image = load_reduced(path, LONG_SIDE)
        except DatasetError as error:
            raise RuntimeError(error.message) from None
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=92)
        content = base64.b64encode(buffer.getvalue()).decode()
        asked = self._instruction
        if first_words:
            asked += f" Begin with the words: {first_words}"
        return {
            "model": self.endpoint.model,
            "temperature": 0,
            "max_tokens": 300,
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": asked},
                        {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{content}"}},
                    ],
                }
            ],
        }

    def _caption_in(self, answer: Any) -> str:
        """The caption in an answer; "" if there is none. What else it holds is not trusted."""
        try:
            content = answer["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            raise RuntimeError("the answer is not that of a chat") from None
        with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError):
            self.tokens += max(0, int(answer["usage"]["total_tokens"]))
        if isinstance(content, list):
            parts = [part.get("text") for part in content if isinstance(part, dict)]
            content = " ".join(part for part in parts if isinstance(part, str))
        if not isinstance(content, str):
            return ""
        lines = [line.strip() for line in _THOUGHT.sub("", content).splitlines()]
        line = next((line for line in lines if line), "")
        return clean_caption(line.removeprefix("Caption:").strip().strip("\"'*` "))


def _post(url: str, body: dict[str, Any], *, direct: bool) -> Any:
    """The answer to a request. direct: without a proxy, which would see what stays on this machine."""
    headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "ti_tui"}
    if key := os.environ.get(KEY, "").strip():
        if not (key.isascii() and key.isprintable()):
            raise _Hopeless(f"${KEY} holds characters that no key has")
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
    # A key must not follow a redirect to another host.
    proxies = [urllib.request.ProxyHandler({})] if direct else []
    opener = urllib.request.build_opener(*proxies, _NoRedirect)
    with opener.open(request, timeout=SECONDS) as answer:
        content = answer.read(LARGEST_ANSWER + 1)
    if len(content) > LARGEST_ANSWER:
        raise RuntimeError("the answer is larger than 1 MiB")
    try:
        return bounded.parse_json(content, finite=False)
    except ValueError:
        raise RuntimeError("the answer is not JSON") from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _reason(error: urllib.error.HTTPError) -> str:
    """What an error's answer says, in a line."""
    text = error.reason
    with contextlib.suppress(Exception):
        answer = bounded.parse_json(error.read(4096))
        said = answer.get("error", answer)
        text = said.get("message", text) if isinstance(said, dict) else said
    said = printable(" ".join(str(text).split()))[:200]
    # Some servers repeat the key that they refuse.
    return said.replace(key, "...") if (key := os.environ.get(KEY, "").strip()) else said


def _wait_of(error: urllib.error.HTTPError, attempt: int) -> float:
    """Seconds until the next try: what Retry-After says, else longer each time."""
    text = error.headers.get("Retry-After") or ""
    seconds = 2.0**attempt / 2
    if text.strip().isdigit():
        seconds = float(text)
    elif text:
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
    return min(MOST_WAIT, max(0.0, seconds))
