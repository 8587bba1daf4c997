"""`ctxrep-edit bench faithful` counts what the default checks say."""

import json

from click.testing import CliRunner

from ctxrep_edit import cli


def test_faithful_counts_what_is_caught_and_what_is_flagged_wrongly() -> None:
    result = CliRunner().invoke(cli.cli, ["bench", "faithful", "--photos", "1", "--sampled", "0", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["part_or_whole"] == 1
    assert {name: count for name, (_, _, count) in found["iou"].items()} == {"sticker": 6, "frame": 6, "weather": 6}
    assert all(mean > 0.7 for mean, _, _ in found["iou"].values())
    rows = {(row["edits"], row["what"], row["region"]): row for row in found["flagged"]}
    assert rows["part", "right", "estimated"]["n"] == rows["whole", "right", "estimated"]["n"] == 18
    assert rows["part", "right", "estimated"]["flagged"] <= 0.06
    assert rows["part", "right, alone of its kind", "estimated"]["flagged"] == 0
    for kind in ("part", "whole"):
        for region in ("estimated", "mask"):
            assert rows[kind, "empty", region]["by"]["change"] == rows[kind, "empty", region]["n"] == 3
    for fault in ("shift", "cast", "noise", "moved", "missing"):
        assert rows["part", fault, "mask"]["flagged"] == 1


def test_faithful_needs_pictures_of_the_size_of_the_world() -> None:
    result = CliRunner().invoke(cli.cli, ["bench", "faithful", "--model", "qwen-nano"])
    assert result.exit_code == 1
    assert "name kontext-nano, whose edits it follows, or sd3-nano" in " ".join(result.stderr.split())
