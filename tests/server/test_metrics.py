"""What /metrics tells."""

from __future__ import annotations

import re
from typing import Any

import tiny
from serving import Place, until


def told(place: Place) -> dict[str, float]:
    answer = place.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "nothing" not in answer.text
    found = re.findall(r"^((?:ctxrep_edit|process)_\S+(?:\{.*\})?) (\S+)$", answer.text, re.MULTILINE)
    return {name: float(value) for name, value in found}


def test_requests_edits_and_seconds_are_counted(place: Place, png: bytes) -> None:
    ask: dict[str, Any] = {"image": ("a.png", png), "prompt": tiny.WORDS, "n": 2}
    before = told(place)
    place.client.images.edit(**ask, extra_body={"preserve": "off"})
    list(place.client.images.edit(**ask, stream=True, extra_body={"preserve": "off"}))
    place.get("/v1/nothing/of/a/client")
    more = {
        'ctxrep_edit_requests_total{path="/v1/images/edits",status="200"}': 2,
        'ctxrep_edit_requests_total{path="other",status="404"}': 1,
        'ctxrep_edit_edits_total{verdict="not judged"}': 4,
        'ctxrep_edit_stage_seconds_count{stage="wait"}': 2,
        'ctxrep_edit_stage_seconds_count{stage="make"}': 2,
    }

    def counted() -> dict[str, float]:
        after = told(place)
        return {name: after.get(name, 0) - before.get(name, 0) for name in more}

    until(lambda: counted() == more)  # the last one when its answer is through
    after = told(place)
    assert after["ctxrep_edit_ready"] == 1
    assert after["process_resident_memory_bytes"] > 2**20
