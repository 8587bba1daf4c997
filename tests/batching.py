"""Rows of a manifest, and what became of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def row(**values: Any) -> dict[str, Any]:
    return {"image": "a.png", "instruction": "add a sticker", "n": 2, "preserve": "off", **values}


def results(desk: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (desk / "out" / "results.jsonl").read_text("utf-8").splitlines()]
