"""A server of jobs with kontext-nano, the page before it, and a browser to look at it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from ctxrep_plugins.page.api import Api
from ctxrep_plugins.page.running import served
from playwright.sync_api import Browser, sync_playwright
from serving import serving
from visiting import Shop, Visitor

CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")  # a process has one queue of jobs at a time
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    state = tmp_path_factory.mktemp("state")
    with serving("kontext-nano", state=state) as place, tempfile.TemporaryDirectory() as folder:
        api = Api(place.url)
        with served(api, Path(folder), 0) as url:
            yield Shop(url.rstrip("/"), place.url, state)
        api.close()


@pytest.fixture(scope="module")  # while it is there, an event loop runs in this thread
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("the page is looked at in Chromium, which is not here: apt-get install chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visitor(shop: Shop, browser: Browser) -> Iterator[Visitor]:
    """At the width of a phone, in the dark; nothing may be asked of another host, and nothing may break."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    page, hosts, broken = context.new_page(), set[str](), list[Any]()
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    page.on("pageerror", lambda error: broken.append(error))
    page.goto(shop.url)
    page.wait_for_selector("#picture input[type=file]", state="attached", timeout=40_000)
    yield Visitor(page)
    context.close()
    assert hosts <= {urlsplit(shop.url).netloc, ""}  # "": data: and blob:
    assert not broken
