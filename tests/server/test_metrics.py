"""What /metrics tells."""

from __future__ import annotations

import re
from pathlib import Path

import tiny
from serving import serving


def test_requests_edits_and_seconds_are_counted(folder: Path, png: bytes, tmp_path: Path) -> None:
    with serving(folder, state=tmp_path) as place:
        ask = {"image": ("a.png", png), "prompt": tiny.WORDS, "n": 2}
        place.client.images.edit(**ask, extra_body={"preserve": "off"})  # type: ignore[call-overload]
        list(place.client.images.edit(**ask, stream=True, extra_body={"preserve": "off"}))  # type: ignore[call-overload]
        place.get("/v1/nothing/of/a/client")
        answer = place.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    said = dict(re.findall(r"^(ctxrep_edit_\S+(?:\{.*\})?) (\S+)$", answer.text, re.MULTILINE))
    assert said['ctxrep_edit_requests_total{path="/v1/images/edits",status="200"}'] == "2.0"
    assert said['ctxrep_edit_requests_total{path="other",status="404"}'] == "1.0"
    assert said['ctxrep_edit_edits_total{verdict="not judged"}'] == "4.0"
    for stage in ("wait", "make"):
        assert said[f'ctxrep_edit_stage_seconds_count{{stage="{stage}"}}'] == "2.0"
    assert (said["ctxrep_edit_ready"], said["ctxrep_edit_jobs_waiting"]) == ("1.0", "0.0")
    assert "process_resident_memory_bytes" in answer.text
    assert "nothing" not in answer.text
