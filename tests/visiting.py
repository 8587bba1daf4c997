"""Somebody who has the page open, and what is behind it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import skimage
from playwright.sync_api import Page, expect

PHOTO = Path(skimage.__file__).parent / "data" / "coffee.png"


@dataclass
class Shop:
    """Where the page is, and the server behind it. state: the folder of its jobs."""

    url: str
    server: str
    state: Path

    def jobs(self) -> list[str]:
        return [folder.name for folder in (self.state / "jobs").iterdir()]

    def status(self, job: str) -> str:
        return str(httpx.get(f"{self.server}/v1/jobs/{job}").json()["status"])


@dataclass
class Visitor:
    """Somebody with the page open."""

    page: Page

    def choose(self, picture: Path = PHOTO) -> None:
        self.page.set_input_files("#picture input[type=file]", picture)
        self.page.wait_for_selector("#picture img")

    def ask(self, words: str, n: int = 2) -> None:
        """By the keyboard alone."""
        self.page.get_by_label("number input for How many edits").fill(str(n))
        self.page.get_by_label("What to change").fill(words)
        self.page.keyboard.press("Enter")

    @property
    def cards(self) -> Any:
        return self.page.locator(".card")

    @property
    def more(self) -> Any:
        return self.page.locator("#more")

    def told(self, words: Any) -> None:
        expect(self.page.locator("#note [role=status]")).to_contain_text(words, timeout=40_000)
