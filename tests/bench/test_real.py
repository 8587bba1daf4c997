"""`ctxrep-edit bench real` counts what the default checks say of labelled edits."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from click.testing import CliRunner
from ctxrep_plugins.bench.real.labels import read_folder
from PIL import Image, ImageDraw

from ctxrep_edit import InputError, cli

PHOTO = Image.fromarray(skimage.data.astronaut()).resize((192, 192), Image.Resampling.LANCZOS)
BOX = [0.1, 0.6, 0.4, 0.9]
SHARED = Path(os.environ.get("CTXREP_REAL_EDITS", Path(__file__).parents[3] / "shared" / "real-edits"))


def painted() -> Image.Image:
    edit = PHOTO.copy()
    ImageDraw.Draw(edit).rectangle([192 * side for side in BOX], fill="red")
    return edit


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    cast = Image.fromarray(np.add(painted(), [16, 0, -16], dtype=float).clip(0, 255).astype(np.uint8))
    pictures = {
        "source": PHOTO,
        "good": painted(),
        "cast": cast,
        "dusk": Image.fromarray((np.asarray(PHOTO) * 0.4 + [150, 60, 0]).astype(np.uint8)),
    }
    for name, picture in pictures.items():
        picture.save(tmp_path / f"{name}.png")
    pair = {"source": "source.png", "kind": "local", "rest_kept": "yes", "aspect_changed": False}
    pairs = [
        {**pair, "id": "1", "edit": "good.png", "boxes": [BOX]},
        {**pair, "id": "2", "edit": "cast.png", "rest_kept": "no", "boxes": [BOX]},
        {**pair, "id": "3", "edit": "dusk.png", "kind": "global"},
        {**pair, "id": "4", "edit": "cast.png"},  # a wrong label, which is a miss
    ]
    (tmp_path / "manifest.json").write_text(json.dumps(pairs), "utf-8")
    return tmp_path


def test_real_counts_and_draws_the_misses(folder: Path) -> None:
    sheet = folder / "misses.png"
    result = CliRunner().invoke(cli.cli, ["bench", "real", str(folder), "--json", "--sheet", str(sheet)])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    without, masked = found["asked"]
    assert (without["given"], masked["given"]) == ("no mask", "mask")
    assert (masked["kept"]["share"], masked["kept"]["of"]) == (0, 1)
    assert (masked["not_kept"]["share"], masked["not_kept"]["of"]) == (1, 1)
    assert without["not_kept"]["share"] == 1
    assert (without["kept"]["share"], without["kept"]["of"]) == (pytest.approx(1 / 3), 3)
    assert without["empty"] == {"share": 1, "low": pytest.approx(0.51, abs=0.01), "high": 1, "of": 4}
    assert without["refused"] == masked["refused"] == 0
    assert without["checks"]["preservation"]["not_kept"]["share"] == 1
    assert found["told_apart"]["share"] == found["aspects"]["share"] == 1
    assert found["region_outside"] < 0.05
    assert found["region_inside"] > 0.8
    rows = {(row["id"], row["given"]): row for row in found["pairs"]}
    assert rows["2", "mask"]["by"] == ["preservation"]
    with Image.open(sheet) as picture:
        assert picture.width > 300


def test_it_prints_tables(folder: Path) -> None:
    result = CliRunner().invoke(cli.cli, ["bench", "real", str(folder)])
    assert result.exit_code == 0, result.output
    for words in (
        "Flagged, with 95 % intervals",
        "By each check alone",
        "Local or whole told right: 1.00",
        "seconds a",
    ):
        assert words in result.stdout


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("[", "is not JSON: .*Mend it"),
        ("[]", "lists no pairs. It must be a list of objects"),
        ("[1]", "pair 1 of .* is not an object"),
        ('[{"source": "source.png", "kind": "local"}]', "lacks edit, rest_kept. Give source, edit, kind and rest_kept"),
        (
            '[{"source": "source.png", "edit": "good.png", "kind": "odd", "rest_kept": "no"}]',
            "is 'odd', but must be one of local, global, background",
        ),
        (
            '[{"source": "source.png", "edit": "good.png", "kind": "local", "rest_kept": 1}]',
            "is 1, but must be 'yes' or 'no'",
        ),
        (
            '[{"source": "source.png", "edit": "no.png", "kind": "local", "rest_kept": "no"}]',
            "no.png, which is no file",
        ),
        (
            '[{"source": "source.png", "edit": "good.png", "kind": "local", "rest_kept": "no", "boxes": [[0, 1]]}]',
            r"is \[0, 1\], but must be \[left, top, right, bottom\]",
        ),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(folder: Path, manifest: str, message: str) -> None:
    (folder / "manifest.json").write_text(manifest, "utf-8")
    with pytest.raises(InputError, match=message):
        read_folder(folder)


def test_a_folder_without_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Name a folder of labelled edits"):
        read_folder(tmp_path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no folder of labelled real edits")
def test_real_edits() -> None:
    """The figures of docs/faithfulness.md, with a little room."""
    result = CliRunner().invoke(cli.cli, ["bench", "real", str(SHARED), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    without, masked = found["asked"]
    assert masked["kept"]["share"] <= 0.12
    assert masked["not_kept"]["share"] >= 0.9
    assert without["kept"]["share"] <= 0.15
    assert without["not_kept"]["share"] >= 0.75
    assert found["told_apart"]["share"] >= 0.95
    assert without["refused"] == masked["refused"] == 0
