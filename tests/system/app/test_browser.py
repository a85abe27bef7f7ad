"""The page in a browser: Chromium of the system, driven by Playwright.

The tests are skipped without either, unless SIMPLEMATCH_REQUIRE_BROWSER is 1. They measure what the page shows of its
latency. SLOWER is how much longer everything may take than on two cores that do nothing else.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from simplematch.app.sessions import MOST_SESSIONS

from .conftest import MODEL, SHIFT, encoded

SLOWER = 5
HEAT_MS, MATCH_MS = 50 * SLOWER, 200 * SLOWER
PATIENCE = 60_000  # milliseconds
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
REQUIRED = os.environ.get("SIMPLEMATCH_REQUIRE_BROWSER") == "1"
PACKAGES = [name for name in ("playwright", "axe_playwright_python") if find_spec(name) is None]
NO_CHROMIUM = None if CHROMIUM else "there is no Chromium (apt-get install chromium)"
WHY_NOT = f"{' and '.join(PACKAGES)} must be installed (pip install '.[test]')" if PACKAGES else NO_CHROMIUM
pytestmark = pytest.mark.skipif(WHY_NOT is not None and not REQUIRED, reason=str(WHY_NOT))


GIVE = """([kind, name, content]) => {
    const given = new DataTransfer(), bytes = Uint8Array.from(atob(content), (x) => x.charCodeAt(0));
    given.items.add(new File([bytes], name, { type: "image/png" }));
    const event = kind === "drop"
        ? new DragEvent("drop", { dataTransfer: given, bubbles: true, cancelable: true })
        : new ClipboardEvent("paste", { clipboardData: given, bubbles: true, cancelable: true });
    document.querySelector("#panel-b .view").dispatchEvent(event);
}"""  # as a mouse or the clipboard of the system would


@dataclass
class Server:
    """`simplematch app` in a process of its own, which can be killed and started again on the same port."""

    port: int
    process: subprocess.Popen[str] = field(init=False)

    def start(self) -> None:
        command = [sys.executable, "-m", "simplematch", "app", "--port", str(self.port), "--model", MODEL]
        self.process = subprocess.Popen([*command, "--device", "cpu"], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert f"http://127.0.0.1:{self.port}" in self.process.stdout.readline()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        found = Server(free.getsockname()[1])
    found.start()
    yield found
    found.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if WHY_NOT is not None:
        pytest.fail(f"SIMPLEMATCH_REQUIRE_BROWSER is 1, but {WHY_NOT}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(server: Server, browser: Any) -> Iterator[Any]:
    """The page in a new window; what it logs as an error fails the test."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, accept_downloads=True)
    context.set_default_timeout(PATIENCE)
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    opened(page, server)
    yield page
    context.close()
    assert not errors


def opened(page: Any, server: Server) -> None:
    page.goto(f"http://127.0.0.1:{server.port}/")
    page.wait_for_selector("#model option", state="attached")


def choose(page: Any, side: str, image: Image.Image | bytes, name: str = "picture.png") -> None:
    content = image if isinstance(image, bytes) else encoded(image)
    file = {"name": name, "mimeType": "image/png", "buffer": content}
    page.locator(f"#panel-{side} [data-choose]").last.set_input_files(files=[file])


def ready(page: Any, crops: tuple[Image.Image, Image.Image]) -> None:
    for side, crop in zip("ab", crops, strict=True):
        choose(page, side, crop, f"{side}.png")
    for side in "ab":
        page.locator(f"#panel-{side} [data-file]").get_by_text(f"{side}.png").wait_for()
    page.wait_for_selector("body[data-ready=true]")


def spot(page: Any, side: str, point: tuple[float, float], size: tuple[int, int] = (320, 240)) -> tuple[float, float]:
    """Where a pixel of a picture lies in the window."""
    canvas = page.locator(f"#canvas-{side}")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    scale = min(box["width"] / size[0], box["height"] / size[1])
    left, top = (box[name] + (box[side_] - scale * length) / 2 for name, side_, length in zip(
        ("x", "y"), ("width", "height"), size, strict=True))  # fmt: skip
    return left + scale * point[0], top + scale * point[1]


def click(page: Any, point: tuple[float, float]) -> None:
    rows = page.locator("#rows tr").count()
    page.mouse.click(*spot(page, "a", point))
    page.locator(f"#rows tr:nth-child({rows + 1}) td[data-x]").wait_for()


def match_of(page: Any, row: int) -> tuple[float, float]:
    cell = page.locator(f"#rows tr:nth-child({row}) td[data-x]")
    return float(cell.get_attribute("data-x")), float(cell.get_attribute("data-y"))


def measured(page: Any, name: str) -> float:
    return float(page.evaluate(f"document.body.dataset.{name}"))


def drag(page: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*spot(page, "b", start))
    page.mouse.down()
    page.mouse.move(*spot(page, "b", end), steps=4)
    page.mouse.up()


def downloaded(page: Any, kind: str) -> bytes:
    with page.expect_download() as download:
        page.click(f"[data-download={kind}]")
    return Path(download.value.path()).read_bytes()


def serious(page: Any) -> list[str]:
    """What axe finds serious, of rules and of contrast."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{x['id']}: {x['nodes'][0]['html']}" for x in found if x["impact"] in ("serious", "critical")]


def test_hovering_clicking_dragging_and_downloading(page: Any, crops: tuple[Image.Image, Image.Image]) -> None:
    ready(page, crops)
    for x in range(100, 130, 5):  # the heat map follows the mouse; the first one also compiles the page's code
        page.mouse.move(*spot(page, "a", (x, 100)))
        page.wait_for_timeout(20)
    page.wait_for_function("document.body.dataset.heatBest")
    x, y = map(float, page.evaluate("document.body.dataset.heatBest").split(","))
    cell = (320 / 32, 240 / 32)
    assert abs(x - (125 - SHIFT)) <= 2 * cell[0] and abs(y - (100 - SHIFT)) <= 2 * cell[1]
    assert measured(page, "heatMs") < HEAT_MS

    known = [(120.0, 100.0), (200.0, 160.0), (150.0, 180.0)]
    for row, point in enumerate(known, start=1):
        click(page, point)
        found = match_of(page, row)
        assert np.all(np.abs(np.subtract(found, np.subtract(point, SHIFT))) <= 2 * np.array(cell)), (point, found)
    assert measured(page, "matchMs") < MATCH_MS
    assert re.search("Point 3: .* confidence 0\\.\\d\\d, (not )?mutual", page.inner_text("#status"))

    before = match_of(page, 2)
    drag(page, before, (60, 50))
    page.get_by_text("corrected", exact=True).wait_for()
    assert match_of(page, 2) == pytest.approx((60, 50), abs=1)
    page.keyboard.press("Control+z")
    assert match_of(page, 2) == before
    page.keyboard.press("Control+Shift+z")
    assert match_of(page, 2) == pytest.approx((60, 50), abs=1)

    coco = json.loads(downloaded(page, "coco"))
    assert [image["file_name"] for image in coco["images"]] == ["a.png", "b.png"]
    points = [np.array(x["keypoints"]).reshape(-1, 3)[:, :2] for x in coco["annotations"]]
    assert np.allclose(points[0], known, atol=1)
    assert np.allclose(points[1], [match_of(page, row) for row in (1, 2, 3)], atol=1e-3)
    assert [x["corrected"] for x in json.loads(downloaded(page, "json"))["matches"]] == [False, True, False]
    assert downloaded(page, "csv").decode().count("\n") == 4
    with Image.open(io.BytesIO(downloaded(page, "png"))) as picture:
        assert picture.size == (2 * 320 + 12, 240)
    assert serious(page) == []


def test_grid_mutual_settings_and_keys(page: Any, crops: tuple[Image.Image, Image.Image]) -> None:
    ready(page, crops)
    page.click("#grid")
    page.locator("#rows tr:nth-child(48) td[data-x]").wait_for()
    mutual = int(re.search(r"(\d+) mutual", page.inner_text("#count"))[1])  # type: ignore[index]
    assert 0 < mutual < 48
    page.click("#mutual")
    assert page.locator("#rows tr").count() == mutual and page.get_attribute("#mutual", "aria-pressed") == "true"
    page.click("#undo")
    assert page.locator("#rows tr").count() == 48
    page.click("#clear")

    page.focus("#canvas-a")
    page.keyboard.press("ArrowRight")
    for key in ("ArrowRight", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.locator("#rows td[data-x]").wait_for()
    assert page.inner_text("#rows tr td:nth-child(2)") == "163.2, 123.2"
    sharp = page.inner_text("#rows td:nth-child(5)")
    page.fill("#temperature", "1")
    page.wait_for_function("old => document.querySelector('#rows td:nth-child(5)').innerText != old", arg=sharp)
    page.focus("#canvas-b")
    x, y = match_of(page, 1)
    page.keyboard.press("n")
    page.keyboard.press("Shift+ArrowLeft")
    assert match_of(page, 1) == pytest.approx((x - 1, y))
    page.keyboard.press("Delete")
    assert page.locator("#rows tr").count() == 0


def test_bad_pictures_leave_the_good_one(page: Any, crops: tuple[Image.Image, Image.Image]) -> None:
    choose(page, "a", crops[0], "good.png")
    page.locator("#panel-a [data-file]").get_by_text("good.png").wait_for()
    choose(page, "a", b"no picture", "bad.png")
    note = page.locator("#panel-a [data-note]")
    note.get_by_text("bad.png: the picture can't be read").wait_for()
    assert "good.png" in page.inner_text("#panel-a [data-file]")
    choose(page, "a", encoded(crops[1], "GIF", save_all=True, append_images=[crops[0]]), "moving.gif")
    note.get_by_text("only the first is used").wait_for()
    for event in ("drop", "paste"):
        page.evaluate(GIVE, [event, f"{event}.png", base64.b64encode(encoded(crops[1])).decode()])
        page.locator("#panel-b [data-file]").get_by_text(f"{event}.png").wait_for()
    page.emulate_media(color_scheme="dark")
    assert serious(page) == []


def test_two_tabs_and_a_server_that_is_killed(
    page: Any, server: Server, crops: tuple[Image.Image, Image.Image]
) -> None:
    ready(page, crops)
    other = page.context.new_page()
    opened(other, server)
    ready(other, (crops[1], crops[0]))
    for tab, way in ((page, -SHIFT), (other, SHIFT)):
        click(tab, (150, 120))
        assert np.abs(np.subtract(match_of(tab, 1), np.add((150, 120), way))).max() < 20
    other.close()
    before = match_of(page, 1)

    server.kill()
    page.mouse.click(*spot(page, "a", (200, 100)))
    banner = page.locator("#banner")
    banner.get_by_text("The server doesn't answer").wait_for()
    server.start()
    banner.get_by_text("The server was started again").wait_for()
    page.locator("#rows tr:nth-child(2) td[data-x]").wait_for()  # the click that had no answer
    assert match_of(page, 1) == before
    assert np.abs(np.subtract(match_of(page, 2), (200 - SHIFT, 100 - SHIFT))).max() < 20

    # As many other pages as the server has room for take the place of this one.
    page.evaluate(f"Promise.all([...Array({MOST_SESSIONS})].map(() => fetch('/api/sessions', {{method: 'POST'}})))")
    click(page, (100, 100))
    banner.get_by_text("The server had dropped the pictures of this page").wait_for()
