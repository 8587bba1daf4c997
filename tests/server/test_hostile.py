"""No request makes the server fail: a few hundred here, ten thousand by tests/benchmarks/hostile.py."""

from __future__ import annotations

from pathlib import Path

import hostility
from ctxrep_plugins.server.warned import told
from serving import serving


def test_no_request_is_answered_by_a_fault(folder: Path, tmp_path: Path) -> None:
    seen = hostility.Seen()
    with told(lambda kind: None), serving(folder, state=tmp_path) as place:
        hostility.from_schema(place.url, 4, 1, seen)
        hostility.from_corpus(place.url, 80, 1, seen)
        assert not place.logged("fault")
    assert not seen.faults
    assert seen.requests > 100
    assert {200, 400, 404} <= {*seen.statuses}
