"""A captioner behind an address: a real server that is quick, slow, busy, broken or lies."""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.fixtures.chat_server import Answer, Server, chat, serving
from ti_tui.captions.endpoint import KEY, CaptionerError, Endpoint
from ti_tui.captions.models import find_captioner
from ti_tui.jobs import endpoint
from ti_tui.jobs.captioning import Captioned, CaptionFailed, CaptioningFinished
from ti_tui.jobs.endpoint import EndpointCaptioner


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv(KEY, raising=False)
    with serving() as found:
        yield found


@pytest.fixture
def images(tmp_path: Path) -> dict[str, Path]:
    found = {}
    for number, colour in enumerate(("red", "green", "blue")):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (1500 + number, 900), colour).save(path)
        found[path.name] = path
    return found


def captioner(server: Server, **more: Any) -> EndpointCaptioner:
    return EndpointCaptioner(Endpoint.of(server.url, "llava"), **more)


def test_images_are_captioned_a_few_at_once_with_the_instruction(
    server: Server, images: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, "secret")

    def answer(number: int, body: dict[str, Any]) -> Answer:
        time.sleep(0.2)
        return chat('<think>hm,\nlet me see</think>\n\n"A cup  on a table."\nAnd more')

    server.answer = answer
    asked = captioner(server, subject="the woman", parallel=2)
    messages = list(asked.caption(images, ""))
    assert {one.name: one.caption for one in messages if isinstance(one, Captioned)} == dict.fromkeys(
        images, "A cup on a table"
    )
    assert messages[-1] == CaptioningFinished("done", 3, 0) and server.most_at_once == 2 and asked.tokens == 21
    assert set(server.keys) == {"Bearer secret"}
    text, image = server.bodies[0]["messages"][0]["content"]
    assert server.bodies[0]["model"] == "llava" and "Do not name or describe the woman itself" in text["text"]
    head, _, content = image["image_url"]["url"].partition(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as sent:
        assert max(sent.size) == 1024


def test_first_words_begin_each_caption_once(server: Server, images: dict[str, Path]) -> None:
    server.answer = lambda number, body: chat("a photo of a cup" if number else "a cup")
    messages = list(captioner(server, parallel=1).caption(images, "a photo of"))
    assert {one.caption for one in messages if isinstance(one, Captioned)} == {"a photo of a cup"}
    assert "Begin with the words: a photo of" in server.bodies[0]["messages"][0]["content"][0]["text"]


def test_a_busy_server_is_asked_again(server: Server, images: dict[str, Path]) -> None:
    def answer(number: int, body: dict[str, Any]) -> Answer:
        if number < 2:
            return (429, {"Retry-After": "0"}, b"{}") if number else (503, {"Retry-After": "0"}, b"loading")
        return chat("a cup")

    server.answer = answer
    messages = list(captioner(server, parallel=1).caption(images))
    assert messages[-1] == CaptioningFinished("done", 3, 0) and len(server.bodies) == 5


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((200, {}, b"<html>"), "the answer is not JSON"),
        ((200, {}, b"[" * 100_000), "the answer is not JSON"),
        ((200, {}, b'{"choices": []}'), "the answer is not that of a chat"),
        ((200, {}, b'{"choices": [{"message": {"content": 1e999}}]}'), "the endpoint gave no text"),
        ((200, {}, b'"' + b"x" * (1 << 21) + b'"'), "larger than 1 MiB"),
        (chat(""), "the endpoint gave no text"),
        (chat("<think>for ever"), "the endpoint gave no text"),
        ((400, {}, b'{"error": {"message": "no \\u001b]52;c;eA==\\u0007 images"}}'), "answered 400: no"),
        ((302, {"Location": "http://127.0.0.1:9/v1"}, b""), "answered 302"),
    ],
)
def test_an_answer_that_is_none_fails_its_image_in_words(
    server: Server, images: dict[str, Path], answer: Answer, says: str
) -> None:
    # An answer without text is asked for again.
    tries = endpoint.TRIES if "no text" in says else 1
    server.answer = lambda number, body: answer if 1 <= number <= tries else chat([{"type": "text", "text": "a cup"}])
    messages = list(captioner(server, parallel=1).caption(images))
    (failed,) = [one for one in messages if isinstance(one, CaptionFailed)]
    assert failed.name == "1.png" and says in failed.reason and "\x1b" not in failed.reason
    assert messages[-1] == CaptioningFinished("done", 2, 1)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_model_ends_the_job_at_once(server: Server, images: dict[str, Path], status: int) -> None:
    server.answer = lambda number, body: (status, {}, b'{"error": "model not found"}')
    messages = list(captioner(server, parallel=1).caption(images))
    (finished,) = messages
    assert isinstance(finished, CaptioningFinished) and finished.outcome == "failed"
    assert f"answers {status}: model not found" in finished.reason and KEY in finished.remedy


def test_a_server_that_is_not_there_is_told(images: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "TRIES", 1)
    (finished,) = EndpointCaptioner(Endpoint.of("http://127.0.0.1:9", "llava")).caption(images)
    assert isinstance(finished, CaptioningFinished) and "no answer from 127.0.0.1" in finished.reason


def test_an_answer_that_does_not_come_fails_its_image_only(
    server: Server, images: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "SECONDS", 0.3)
    monkeypatch.setattr(endpoint, "TRIES", 1)

    def answer(number: int, body: dict[str, Any]) -> Answer:
        if number == 0:
            time.sleep(1.5)
        return chat("a cup")

    server.answer = answer
    messages = list(captioner(server, parallel=1).caption(images))
    assert messages[-1] == CaptioningFinished("done", 2, 1)


def test_a_job_is_cancelled_within_an_answer(server: Server, images: dict[str, Path]) -> None:
    def answer(number: int, body: dict[str, Any]) -> Answer:
        if number:
            time.sleep(5)
        return chat("a cup")

    server.answer = answer
    asked = captioner(server, parallel=1)
    messages, began = [], time.monotonic()
    for message in asked.caption(images):
        messages.append(message)
        asked.cancel()
    assert messages[-1] == CaptioningFinished("cancelled", 1, 0) and time.monotonic() - began < 4


def test_a_file_that_is_no_image_is_not_sent(server: Server, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    messages = list(captioner(server).caption({"bad.png": tmp_path / "bad.png"}))
    assert messages[-1] == CaptioningFinished("done", 0, 1) and server.bodies == []


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://localhost:11434/v1", True), ("http://127.0.0.1:8000", True), ("http://[::1]:8000/v1/", True),
        ("https://api.example.org/v1/chat/completions", False), ("http://192.168.1.7:1234", False),
        ("http://localhost.example.org", False),
    ],
)  # fmt: skip
def test_it_is_known_whether_images_leave_this_machine(url: str, here: bool) -> None:
    found = Endpoint.of(url, "llava")
    assert found.is_here == here and found.url.endswith("/v1")
    assert bool(found.warning(3)) != here and (here or ("unencrypted" in found.warning(3)) == url.startswith("http:"))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:11434",
        "ftp://x/v1",
        "http://",
        "http://me:pass@x/v1",
        "http://x:99999",
        "http://[",
        "http://x?y=1",
        "http://x/\x1b",
        "file:///etc",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(CaptionerError, match="is not the address"):
        Endpoint.of(url, "llava")
    with pytest.raises(CaptionerError, match="name of a model"):
        Endpoint.of("http://localhost", " ")


def test_an_address_can_stand_where_a_captioner_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TI_TUI_CAPTIONER", "http://localhost:11434 llava:7b")
    assert find_captioner() == Endpoint("http://localhost:11434/v1", "llava:7b")
    assert Endpoint.named("/models/blip") is None


def test_images_for_this_machine_go_past_a_proxy(
    server: Server, images: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    messages = list(captioner(server).caption(images))
    assert messages[-1] == CaptioningFinished("done", 3, 0)


def test_an_image_whose_answer_never_ends_is_given_up_and_the_others_go_on(
    server: Server, images: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "MOST_SECONDS", 2.0)
    release = threading.Event()

    def answer(number: int, body: dict[str, Any]) -> Answer:
        if number == 0:
            release.wait(60)
        return chat("a cup")

    server.answer = answer
    try:
        messages = list(captioner(server, parallel=1).caption(images))
    finally:
        release.set()
    assert messages[-1] == CaptioningFinished("done", 2, 1)
    assert all(thread.daemon for thread in threading.enumerate() if thread.name.startswith("endpoint"))


def test_a_refused_key_is_not_repeated(
    server: Server, images: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, "sk-secret")
    server.answer = lambda number, body: (401, {}, b'{"error": "sk-secret is wrong"}')
    (finished,) = captioner(server, parallel=1).caption(images)
    assert isinstance(finished, CaptioningFinished) and "sk-secret" not in finished.reason
    monkeypatch.setenv(KEY, "two\nlines")
    (finished,) = captioner(server, parallel=1).caption(images)
    assert isinstance(finished, CaptioningFinished) and "no key has" in finished.reason
