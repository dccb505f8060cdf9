"""A browser shows the page of a run without a word of complaint, and the sphere answers to mouse, touch and keys."""

import base64
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from sentemb.report import write_report
from tests.report.test_page import CONFIG, record, scores
from tests.report.test_sphere import sphere

pytestmark = pytest.mark.slow
PICTURE = "() => document.querySelector('#sphere canvas').toDataURL()"
SIDEWAYS = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
OPEN = "() => document.querySelectorAll('details').forEach(each => { each.open = true })"
READ = "() => document.querySelector('#sphere output').textContent"
FRAME = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
WORDS = [text for pair in sphere()["pairs"] for text in pair]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    if shutil.which("chromium") is None:
        pytest.skip("no chromium on the PATH")
    with sync.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a page with all that it can have."""
    run: Path = tmp_path_factory.mktemp("run")
    (run / "config.json").write_text(json.dumps(CONFIG))
    (run / "log.jsonl").write_text("\n".join(json.dumps(record(step)) for step in range(0, 301, 10)))
    content = sphere()
    content["encoders"]["minilm"] = content["encoders"].pop("random rnn")
    content["encoders"] = {name: content["encoders"][name] for name in ("minilm", "trained")}
    (run / "scores.json").write_text(json.dumps(scores() | {"sphere": content}))
    return write_report(run).as_uri()


@pytest.fixture
def opened(chromium, page):
    """Opens the page, and complains at the end of what the browser complained of."""
    complaints, asked = [], []

    def open_page(**options: Any) -> Any:
        context = chromium.new_context(offline=True, reduced_motion=options.pop("reduced_motion", "reduce"), **options)
        tab = context.new_page()
        tab.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url.partition(":")[0]))
        tab.goto(page)
        tab.evaluate(FRAME)
        return tab

    yield open_page
    for context in chromium.contexts:
        context.close()
    assert complaints == [] and set(asked) <= {"file", "data"}


def picture_after(tab: Any, *keys: str) -> str:
    for key in keys:
        tab.keyboard.press(key)
    tab.evaluate(FRAME)
    return str(tab.evaluate(PICTURE))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_scrolls_sideways_and_the_scheme_is_the_readers(opened, scheme):
    tab = opened(color_scheme=scheme)
    tab.evaluate(OPEN)
    for width in (1200, 600, 360):
        tab.set_viewport_size({"width": width, "height": 800})
        assert tab.evaluate(SIDEWAYS) <= 0, width
        box = tab.locator("#sphere canvas").bounding_box()
        assert 250 < box["width"] <= width and box["height"] == pytest.approx(box["width"], abs=1)
    for element in ("body", "section"):
        shade = tab.evaluate(f"() => getComputedStyle(document.querySelector('{element}')).backgroundColor")
        brightness = sum(map(int, shade.removeprefix("rgb(").removesuffix(")").split(", "))) / 3
        assert brightness < 60 if scheme == "dark" else brightness > 200


def test_arrow_keys_turn_the_sphere_and_turn_it_back(opened):
    tab = opened()
    tab.locator("#sphere canvas").focus()
    pictures = [picture_after(tab)]
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"):
        pictures.append(picture_after(tab, key))
    assert len(set(pictures)) == len(pictures)  # two turns about different axes do not commute
    pictures.append(picture_after(tab, "ArrowDown", "ArrowRight", "ArrowUp", "ArrowLeft", "x"))
    first, last = (imread(io.BytesIO(base64.b64decode(pictures[i].partition(",")[2]))) for i in (0, -1))
    assert np.abs(first - last).mean() < 0.002  # rounding moves an edge by a part of a pixel


def test_a_mouse_turns_the_sphere_and_reads_sentences(opened):
    tab = opened()
    canvas = tab.locator("#sphere canvas")
    canvas.scroll_into_view_if_needed()
    box, before = canvas.bounding_box(), picture_after(tab)
    assert not any(word in tab.evaluate(READ) for word in WORDS)
    read = set()
    for x in range(20, int(box["width"]), 12):
        for y in range(20, int(box["height"]), 12):
            tab.mouse.move(box["x"] + x, box["y"] + y)
        read.add(tab.evaluate(READ))
    assert len(read) > 4
    assert any("first 3second 3cosine 0.50 before: minilm, 0.50 after: trained" in text for text in read)
    middle = [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]
    tab.mouse.move(*middle)
    tab.mouse.down()
    tab.mouse.move(middle[0] + 60, middle[1] + 20)
    tab.mouse.up()
    assert picture_after(tab) != before


def test_keys_alone_reach_sentences_encoders_and_details(opened):
    tab = opened()
    for _ in range(20):
        tab.keyboard.press("Tab")
        if tab.evaluate("() => document.activeElement.tagName") == "CANVAS":
            break
    assert "first 0second 0" in tab.evaluate(READ)  # where the focus comes by key
    tab.keyboard.press("n")
    assert "first 1" in tab.evaluate(READ)
    tab.keyboard.press("p")
    tab.keyboard.press("p")
    assert "first 11" in tab.evaluate(READ)
    tab.get_by_role("button", name="Next pair").press("Enter")
    assert "first 0" in tab.evaluate(READ)
    after = picture_after(tab)
    before_button = tab.get_by_role("button", name="before: minilm")
    assert before_button.get_attribute("aria-pressed") == "false"
    before_button.press("Enter")
    assert picture_after(tab) != after and before_button.get_attribute("aria-pressed") == "true"
    details = tab.locator("#settings")
    assert not details.get_by_role("table").first.is_visible()
    details.locator("summary").first.press("Enter")
    assert details.get_by_role("table").first.is_visible()


def test_a_finger_reads_and_the_change_is_shown_once_where_motion_is_welcome(opened):
    tab = opened(has_touch=True, viewport={"width": 360, "height": 700}, reduced_motion="no-preference")
    pressed = "() => document.querySelector('[data-encoder][aria-pressed=true]').textContent"
    assert tab.evaluate(pressed) == "before: minilm"
    canvas = tab.locator("#sphere canvas")
    canvas.scroll_into_view_if_needed()
    for _ in range(100):
        if tab.evaluate(pressed) == "after: trained":
            break
        tab.wait_for_timeout(200)
    assert tab.evaluate(pressed) == "after: trained"
    box = canvas.bounding_box()
    for x in range(30, int(box["width"]), 25):
        for y in range(30, int(box["height"]), 25):
            if not any(word in tab.evaluate(READ) for word in WORDS):
                tab.touchscreen.tap(box["x"] + x, box["y"] + y)
    assert any(word in tab.evaluate(READ) for word in WORDS)
