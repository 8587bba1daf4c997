"""The page in a browser: edits are asked for, compared, continued and taken home."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect
from serving import until
from visiting import PHOTO, Shop, Visitor


def pictures(visitor: Visitor) -> list[bytes]:
    """As the browser gets them."""
    found = [card.get_attribute("src") for card in visitor.page.locator(".card img").all()]
    return [visitor.page.request.get(visitor.page.url.rstrip("/") + str(src)).body() for src in found]


def compared(visitor: Visitor) -> list[Any]:
    """The two pictures under the slider."""
    images = visitor.page.locator("#slider img").all()
    made = [visitor.page.request.get(str(image.get_attribute("src"))).body() for image in images]
    return [np.asarray(Image.open(io.BytesIO(one)).convert("RGB").resize((60, 40)), float) for one in made]


def test_edits_are_made_compared_continued_and_downloaded(visitor: Visitor, tmp_path: Path) -> None:
    page = visitor.page
    visitor.choose()
    visitor.ask("change the light")
    expect(visitor.cards).to_have_count(2, timeout=40_000)
    visitor.told("2 edits")
    assert page.locator(".verdict").all_inner_texts() == ["kept"] * 2
    first, second = pictures(visitor)
    assert first != second

    expect(page.locator("#slider img")).to_have_count(2)
    source, edit = compared(visitor)
    assert np.abs(source - np.asarray(Image.open(PHOTO).resize((60, 40)), float)).mean() < 3
    assert np.abs(source - edit).mean() > 3
    expect(page.locator("#why")).to_contain_text("LPIPS")
    before = page.locator("#slider img").nth(1).get_attribute("src")
    page.get_by_role("button", name="Compare edit 2 with the source").press("Enter")
    expect(page.locator("#slider img").nth(1)).not_to_have_attribute("src", str(before))
    expect(page.locator(".look[aria-pressed=true]")).to_have_count(1)
    page.get_by_label("Changes").check()
    expect(page.locator("#slider img").nth(1)).to_have_attribute("src", re.compile("/(changed|heat)-"))

    expect(visitor.more).to_have_text("Four more, unlike all of these")
    for number in (1, 2):
        page.get_by_label(f"Tick edit {number}").check()
    expect(visitor.more).to_have_text("Four more, unlike these")
    visitor.more.click()
    expect(visitor.cards).to_have_count(6, timeout=40_000)
    visitor.told("6 edits")
    assert pictures(visitor)[:2] == [first, second]
    expect(page.get_by_role("button", name="Compare edit 3 with the source")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".card input:checked")).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth") == 390

    with page.expect_download() as download:
        page.locator("#download").click()
    files = zipfile.ZipFile(download.value.path())
    assert files.testzip() is None
    assert sorted(files.namelist()) == sorted(
        [*(f"edit-{k}.png" for k in range(1, 7)), "source.png", "sheet.png", "edits.json"]
    )
    assert [files.read(f"edit-{k}.png") for k in range(1, 7)] == pictures(visitor)
    recipe = json.loads(files.read("edits.json"))
    assert (recipe["instruction"], len(recipe["edits"])) == ("change the light", 6)


def test_what_is_painted_and_set_goes_to_the_server(visitor: Visitor, shop: Shop) -> None:
    before = set(shop.jobs())
    visitor.choose()
    page = visitor.page
    page.get_by_label("Paint where it may change").check()
    canvas = page.locator("#canvas canvas").first
    canvas.wait_for()
    visitor.ask("add a sticker", 1)
    visitor.told("Nothing is painted yet")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 30, middle[1] + 10, steps=2)
    page.mouse.up()
    page.get_by_role("button", name="More settings").click()
    page.get_by_label("Seed").fill("x")
    visitor.ask("add a sticker", 1)
    visitor.told("seed is 'x'")
    page.get_by_label("Seed").fill("5")
    visitor.ask("add a sticker", 1)
    visitor.told("1 edit")
    (job,) = set(shop.jobs()) - before
    request = json.loads((shop.state / "jobs" / job / "request.json").read_text())
    assert request["options"] == {"preserve": "auto", "seed": 5, "on_unfaithful": "flag", "restore": True}
    mask = Image.open(shop.state / "jobs" / job / "mask")
    with Image.open(PHOTO) as photo:
        assert mask.size == photo.size
    share = np.asarray(mask).mean() / 255
    assert 0.005 < share < 0.3
    assert mask.getpixel((mask.width // 2, mask.height // 2)) == 255


def test_errors_are_shown_in_the_servers_words(visitor: Visitor, tmp_path: Path) -> None:
    visitor.ask("change the light")
    visitor.told("There is no picture yet")
    broken = tmp_path / "broken.png"
    broken.write_bytes(PHOTO.read_bytes()[:2000])
    visitor.page.set_input_files("#picture input[type=file]", broken)
    expect(visitor.page.locator("#picture img")).to_have_count(1)
    visitor.ask("change the light")
    visitor.told("image is truncated or broken: export it again.")
    visitor.page.set_input_files("#picture input[type=file]", [])
    expect(visitor.cards).to_have_count(0)


@contextmanager
def held(shop: Shop) -> Iterator[None]:
    """In it the worker is at work for somebody else, so that what a visitor asks for waits."""
    asked = {"prompt": "change the light", "n": "16", "steps": "200", "batch_size": "1", "preserve": "off"}
    job = httpx.post(f"{shop.server}/v1/jobs", data=asked, files={"image": PHOTO.read_bytes()}).json()["id"]
    try:
        until(lambda: shop.status(job) == "running")
        yield
        assert shop.status(job) == "running"
    finally:
        httpx.post(f"{shop.server}/v1/jobs/{job}/cancel")


@pytest.mark.parametrize("how", ["its button", "leaving the page", "closing the tab"])
def test_a_job_is_cancelled_by(how: str, visitor: Visitor, shop: Shop) -> None:
    with held(shop):
        before = set(shop.jobs())
        visitor.choose()
        visitor.ask("change the light")
        visitor.told("being made")
        (asked,) = set(shop.jobs()) - before
        assert shop.status(asked) == "queued"
        if how == "its button":
            visitor.page.get_by_role("button", name="Cancel").click()
            visitor.told("Cancelled.")
        elif how == "leaving the page":
            visitor.page.goto("about:blank")
        else:
            visitor.page.close()
        until(lambda: shop.status(asked) == "cancelled")


def test_nobody_sees_another_ones(visitor: Visitor, shop: Shop, browser: Browser) -> None:
    visitor.choose()
    visitor.ask("change the light", 1)
    expect(visitor.cards).to_have_count(1, timeout=40_000)
    other = browser.new_page()
    other.goto(shop.url)
    other.wait_for_selector("#empty")
    assert other.locator(".card").count() == 0
    assert other.locator("#picture img").count() == 0
    other.close()
    for file in ("/etc/passwd", shop.state / "jobs.sqlite"):
        assert httpx.get(f"{shop.url}/gradio_api/file={file}").status_code == 403
    assert httpx.get(shop.url, headers={"host": "evil.example"}).status_code == 400
