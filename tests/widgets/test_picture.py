"""The picture widget in a headless app, its drawing and its cache, on pictures made here."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.style import Style
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.strip import Strip

from ti_tui.errors import UserError
from ti_tui.widgets import picture as picture_module
from ti_tui.widgets.graphics import Protocol, extra_installed, halfcell, shades
from ti_tui.widgets.picture import PictureCache, PictureView, decode

RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)
NASTY = "a [v1] (x:1.2) [/b] \x1b[31m"


def four_colours(size: int = 40) -> Image.Image:
    """Red and green above blue and yellow."""
    image = Image.new("RGB", (2, 2))
    for spot, colour in (((0, 0), RED), ((1, 0), GREEN), ((0, 1), BLUE), ((1, 1), YELLOW)):
        image.putpixel(spot, colour)
    return image.resize((size, size), Image.Resampling.NEAREST)


def saved(path: Path, colour: tuple[int, int, int] = RED, size: tuple[int, int] = (64, 64)) -> Path:
    Image.new("RGB", size, colour).save(path)
    return path


class OnePicture(App[None]):
    """A picture and nothing else."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__()
        self.keywords = keywords

    def compose(self) -> ComposeResult:
        yield PictureView(**self.keywords)

    @property
    def picture(self) -> PictureView:
        return self.query_one(PictureView)

    def lines(self) -> list[Strip]:
        return [self.picture.render_line(y) for y in range(self.picture.size.height)]

    def text(self) -> str:
        return "\n".join(line.text for line in self.lines())

    def colours(self) -> set[tuple[int, int, int]]:
        """Every colour of the half cells."""
        styles = [part.style or Style() for line in self.lines() for part in line if "▀" in part.text]
        drawn = [colour for style in styles for colour in (style.color, style.bgcolor)]
        return {tuple(colour.get_truecolor()) for colour in drawn if colour is not None}


def in_app(
    play: Callable[[OnePicture, Pilot[None]], Any], *, size: tuple[int, int] = (40, 20), **keywords: Any
) -> None:
    async def run() -> None:
        app = OnePicture(**keywords)
        async with app.run_test(size=size) as pilot:
            await play(app, pilot)

    asyncio.run(run())


async def until(pilot: Pilot[None], true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "it never came about"
        await pilot.pause(0.02)


def test_each_cell_of_a_half_cell_drawing_has_the_colours_of_two_pixels() -> None:
    strips = halfcell(four_colours(2), 2, 1)
    assert [strip.text for strip in strips] == ["▀▀"]
    left, right = (part.style or Style() for part in strips[0])
    assert (left.color, left.bgcolor) == (Style.parse("#ff0000").color, Style.parse("#0000ff").color)
    assert (right.color, right.bgcolor) == (Style.parse("#00ff00").color, Style.parse("#ffff00").color)


def test_equal_neighbours_are_one_segment() -> None:
    strips = halfcell(four_colours(40), 40, 20)
    assert [len(list(strip)) for strip in strips] == [2] * 20
    assert {strip.cell_length for strip in strips} == {40}


@pytest.mark.parametrize(
    ("size", "drawn"),
    [((300, 300), (40, 20)), ((400, 100), (40, 5)), ((100, 400), (10, 20)), ((2, 2), (40, 20)), ((9000, 1), (40, 1))],
)
def test_a_drawing_keeps_the_shape_of_the_picture(size: tuple[int, int], drawn: tuple[int, int]) -> None:
    strips = halfcell(Image.new("RGB", size), 40, 20)
    assert (strips[0].cell_length, len(strips)) == drawn


def test_256_colours_use_none_that_a_theme_may_change() -> None:
    numbers = {
        colour.number
        for strip in halfcell(four_colours(), 40, 20, "256")
        for part in strip
        for colour in (part.style.color, part.style.bgcolor)
    }
    assert numbers == {16 + 180, 16 + 30, 16 + 5, 16 + 210}


@pytest.mark.parametrize(("dark", "ink"), [(True, {" █"}), (False, {"█ "})])
def test_shades_are_light_ink_on_a_dark_background_and_the_other_way_round(dark: bool, ink: set[str]) -> None:
    image = Image.new("RGB", (2, 2), "white")
    image.paste((0, 0, 0), (0, 0, 1, 2))
    assert {strip.text for strip in shades(image, 2, 1, dark=dark)} == ink


def test_a_picture_is_turned_by_its_exif(tmp_path: Path) -> None:
    image = Image.new("RGB", (80, 40), RED)
    image.paste(BLUE, (40, 0, 80, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    upright = decode(tmp_path / "turned.jpg", (40, 20))
    assert upright.size == (20, 40)
    assert near(upright.getpixel((10, 4)), RED)
    assert near(upright.getpixel((10, 36)), BLUE)


def test_transparency_is_white(tmp_path: Path) -> None:
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert decode(tmp_path / "clear.png", (4, 2)).getpixel((1, 1)) == (255, 255, 255)


def test_16_bits_and_floats_keep_their_greys(tmp_path: Path) -> None:
    grey = Image.new("I;16", (40, 40), 32896)
    grey.save(tmp_path / "grey.png")
    grey.save(tmp_path / "grey.tif")
    Image.new("F", (40, 40), 0.5).save(tmp_path / "float.tif")
    for name in ("grey.png", "grey.tif", "float.tif"):
        assert near(decode(tmp_path / name, (4, 2)).getpixel((1, 1)), (128, 128, 128)), name


@pytest.mark.parametrize("mode", ["CMYK", "L", "1", "P", "LA", "YCbCr", "LAB"])
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    image = Image.new(mode, (40, 40)) if mode in {"LAB"} else Image.new("RGB", (40, 40), "white").convert(mode)
    path = tmp_path / ("picture.png" if mode in {"1", "P", "LA"} else "picture.tif")
    image.save(path)
    drawn = decode(path, (4, 2))
    assert (drawn.mode, drawn.size) == ("RGB", (4, 4))
    assert mode == "LAB" or near(drawn.getpixel((1, 1)), (255, 255, 255))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UserError, match="not a regular file"):
        PictureCache().load(tmp_path / "pipe.png", (4, 2))


def test_the_cache_gives_a_picture_again_until_the_file_changes(tmp_path: Path) -> None:
    cache = PictureCache()
    path = saved(tmp_path / "a.png")
    first = cache.load(path, (4, 2))
    assert cache.load(path, (4, 2)) is first
    assert cache.load(path, (8, 4)) is not first
    saved(path, BLUE)
    os.utime(path, ns=(1, 1))
    assert cache.load(path, (4, 2)).getpixel((0, 0)) == BLUE


def test_the_cache_forgets_what_was_not_used_for_longest(tmp_path: Path) -> None:
    paths = [saved(tmp_path / f"{number}.png") for number in range(4)]
    cache = PictureCache(limit_bytes=3 * 4 * 4 * 3)
    images = [cache.load(path, (4, 2)) for path in paths[:3]]
    assert cache.load(paths[0], (4, 2)) is images[0]
    cache.load(paths[3], (4, 2))
    assert len(cache) == 3
    assert cache.load(paths[0], (4, 2)) is images[0]
    assert cache.load(paths[1], (4, 2)) is not images[1]


def test_a_picture_appears_in_its_colours(tmp_path: Path) -> None:
    four_colours().save(tmp_path / "four.png")

    async def play(app: OnePicture, pilot: Pilot[None]) -> None:
        app.picture.show(tmp_path / "four.png")
        await until(pilot, lambda: app.text().count("▀") == 800)
        assert app.colours() == {RED, GREEN, BLUE, YELLOW}
        await pilot.pause()
        assert app.export_screenshot().count("▀") == 800

    in_app(play)


def test_a_narrow_picture_is_centred(tmp_path: Path) -> None:
    path = saved(tmp_path / "narrow.png", size=(20, 80))

    async def play(app: OnePicture, pilot: Pilot[None]) -> None:
        app.picture.show(path)
        await until(pilot, lambda: "▀" in app.text())
        assert {line.text for line in app.lines()} == {" " * 15 + "▀" * 10 + " " * 15}

    in_app(play)


def test_a_caption_is_one_line_of_plain_text_cut_to_the_width(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png")

    async def play(app: OnePicture, pilot: Pilot[None]) -> None:
        app.picture.show(path, NASTY + "\nsecond")
        await until(pilot, lambda: "▀" in app.text())
        below = app.text().split("\n")[19]
        assert below.strip() == "a [v1] (x:1.2) [/b]  [31m second"
        app.picture.show(path, "word " * 30)
        await until(pilot, lambda: "word" in app.text())
        assert app.lines()[19].cell_length == 40
        assert app.lines()[19].text.rstrip().endswith("…")
        await pilot.pause()

    in_app(play)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is empty"),
        (b"<html>", "is not an image"),
        ("half", "is truncated"),
    ],
)
def test_a_file_that_cannot_be_shown_gives_words(content: bytes | str | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "[b]odd[v1].png"
    if content == "half":
        Image.effect_noise((200, 200), 90).save(path)
        content = path.read_bytes()[:9000]
    if isinstance(content, bytes):
        path.write_bytes(content)

    async def play(app: OnePicture, pilot: Pilot[None]) -> None:
        app.picture.show(path, "caption")
        await until(pilot, lambda: "caption" in app.text())
        assert f"[b]odd[v1].png {words}" in " ".join(app.text().split())
        assert "▀" not in app.text()

    in_app(play, size=(80, 20))


def test_of_many_pictures_in_quick_succession_only_the_last_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [saved(tmp_path / f"{number}.png", (number, 0, 0)) for number in range(30)]
    decoded: list[Path] = []
    monkeypatch.setattr(picture_module, "decode", lambda path, *rest: decoded.append(path) or decode(path, *rest))

    async def play(app: OnePicture, pilot: Pilot[None]) -> None:
        for path in paths:
            app.picture.show(path)
        await until(pilot, lambda: app.colours() == {(29, 0, 0)})
        assert decoded == [paths[-1]]

    in_app(play)


def test_a_slow_picture_never_replaces_a_newer_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, quick = saved(tmp_path / "slow.png", RED), saved(tmp_path / "quick.png", BLUE)
    started, go_on = threading.Event(), threading.Event()

    def hold_up(path: Path, *rest: Any) -> Image.Image:
        if path == slow:
            started.set()
            go_on.wait(30)
        return decode(path, *rest)

    monkeypatch.setattr(picture_module, "decode", hold_up)

    async def play(app: OnePicture, pilot: Pilot[None]) -> None:
        app.picture.show(slow)
        await until(pilot, started.is_set)
        app.picture.show(quick)
        await until(pilot, lambda: app.colours() == {BLUE})
        go_on.set()
        await pilot.pause(0.3)
        assert app.colours() == {BLUE}

    in_app(play)


def test_the_old_picture_stays_while_the_new_one_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = saved(tmp_path / "old.png", RED), saved(tmp_path / "new.png", BLUE)
    started, go_on = threading.Event(), threading.Event()

    def hold_up(path: Path, *rest: Any) -> Image.Image:
        if path == new:
            started.set()
            go_on.wait(30)
        return decode(path, *rest)

    monkeypatch.setattr(picture_module, "decode", hold_up)

    async def play(app: OnePicture, pilot: Pilot[None]) -> None:
        app.picture.show(old)
        await until(pilot, lambda: app.colours() == {RED})
        app.picture.show(new)
        await until(pilot, started.is_set)
        assert app.colours() == {RED}
        go_on.set()
        await until(pilot, lambda: app.colours() == {BLUE})

    in_app(play)


def test_another_size_draws_the_picture_anew(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png")

    async def play(app: OnePicture, pilot: Pilot[None]) -> None:
        app.picture.show(path)
        await until(pilot, lambda: app.text().count("▀") == 800)
        await pilot.resize_terminal(20, 10)
        await until(pilot, lambda: app.text().count("▀") == 200)
        await pilot.resize_terminal(1, 1)
        await until(pilot, lambda: app.text().count("▀") == 1)

    in_app(play)


def test_none_clears_the_picture_even_one_that_is_on_its_way(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png")

    async def play(app: OnePicture, pilot: Pilot[None]) -> None:
        app.picture.show(path)
        await until(pilot, lambda: "▀" in app.text())
        app.picture.show(path, "caption")
        app.picture.show(None)
        await pilot.pause(0.4)
        assert app.text().strip() == ""

    in_app(play)


def test_a_picture_asked_for_before_the_app_runs_appears(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png")

    class Early(OnePicture):
        def compose(self) -> ComposeResult:
            shown = PictureView()
            shown.show(path)
            yield shown

    async def run() -> None:
        app = Early()
        async with app.run_test(size=(40, 20)) as pilot:
            await until(pilot, lambda: "▀" in app.text())

    asyncio.run(run())


def test_an_ansi_theme_gets_no_true_colour(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", (250, 10, 3))

    async def play(app: OnePicture, pilot: Pilot[None]) -> None:
        app.picture.show(path)
        await until(pilot, lambda: app.colours() == {(250, 10, 3)})
        app.theme = "ansi-dark"
        await until(pilot, lambda: app.colours() == {RED})
        assert all(not part.style.color.triplet for line in app.lines() for part in line if part.style.color)

    in_app(play)


def test_without_colours_the_picture_is_made_of_shades(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    path = saved(tmp_path / "a.png", (255, 255, 255))

    async def play(app: OnePicture, pilot: Pilot[None]) -> None:
        app.picture.show(path)
        await until(pilot, lambda: app.text().count("█") == 800)

    in_app(play)


def test_off_shows_the_caption_only(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png")

    async def play(app: OnePicture, pilot: Pilot[None]) -> None:
        app.picture.show(path, "caption")
        await until(pilot, lambda: app.text().strip() == "caption")

    in_app(play, images="off")


@pytest.mark.skipif(not extra_installed(), reason="textual-image is not installed")
@pytest.mark.parametrize("kind", ["sixel", "kitty"])
def test_real_pixels_are_shown_by_the_widget_of_the_extra(kind: Any, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", size=(40, 80))

    async def play(app: OnePicture, pilot: Pilot[None]) -> None:
        app.picture.show(path, "caption")
        await until(pilot, lambda: bool(app.picture.children) and app.picture.children[0].size.area > 0)
        assert app.picture.children[0].region == (10, 0, 19, 19)
        assert app.lines()[19].text.strip() == "caption"
        app.picture.show(tmp_path / "none.png")
        await until(pilot, lambda: "cannot be read" in app.text())
        assert not app.picture.children[0].display

    in_app(play, images=Protocol(kind, "", 10, 20))


def test_without_the_widget_of_the_extra_half_cells_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.png")
    monkeypatch.setattr(picture_module, "load_widget", lambda _protocol: None)

    async def play(app: OnePicture, pilot: Pilot[None]) -> None:
        app.picture.show(path)
        await until(pilot, lambda: app.text().count("▀") == 800)

    in_app(play, images="sixel")


def test_a_widget_of_the_extra_that_fails_gives_way_to_half_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "a.png")
    monkeypatch.setattr(picture_module, "load_widget", lambda protocol: None if protocol.kind == "half" else int)

    async def play(app: OnePicture, pilot: Pilot[None]) -> None:
        app.picture.show(path)
        await until(pilot, lambda: app.text().count("▀") == 800)

    in_app(play, images="kitty")


def test_the_widget_imports_neither_pillow_nor_numpy() -> None:
    heavy = ("PIL", "numpy", "torch", "textual_image")
    script = f"import sys, ti_tui.widgets.picture; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def near(found: Any, wanted: tuple[int, int, int]) -> bool:
    return all(abs(a - b) <= 12 for a, b in zip(found, wanted, strict=True))
