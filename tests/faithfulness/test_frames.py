"""How pictures of another aspect lie on their source, and that undoing it leaves nothing to complain of."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageOps

from ctxrep_edit import assess
from ctxrep_edit.faithfulness.frames import Frame, find_frame

PHOTO = Image.fromarray(skimage.data.astronaut()).crop((0, 60, 512, 412))  # 512 x 352, as 1024 x 704
REAL = Path(os.environ.get("CTXREP_REAL_EDITS", "real-edits"))  # a folder of labelled edits, of no licence to be here
MADE = {
    "stretched": (PHOTO.resize((512, 512)), Frame("stretched", "height", 512 / 352), 0.0),
    "squeezed": (PHOTO.resize((944, 400)), Frame("stretched", "width", 944 / 400 * 352 / 512), 0.0),
    "cropped": (PHOTO.crop((100, 0, 452, 352)), Frame("cropped", "width", 352 / 512), 100 / 512),
    "cropped low": (PHOTO.crop((0, 90, 512, 352)), Frame("cropped", "height", 262 / 352), 90 / 352),
    "padded": (ImageOps.expand(PHOTO, (0, 80), "black"), Frame("padded", "height", 512 / 352), -80 / 352),
    "padded to the right": (ImageOps.expand(PHOTO, (0, 0, 128, 0), "white"), Frame("padded", "width", 1.25), 0.0),
}


@pytest.mark.parametrize("how", MADE)
def test_stretched_cropped_and_padded_are_told_apart(how: str) -> None:
    picture, wanted, start = MADE[how]
    for scale in (1, 0.5):
        size = (round(picture.width * scale), round(picture.height * scale))
        found = find_frame(PHOTO, picture.resize(size, Image.Resampling.LANCZOS))
        assert (found.how, found.side, found.sure) == (wanted.how, wanted.side, True)
        assert found.factor == pytest.approx(wanted.factor, abs=0.01)
        assert found.start == pytest.approx(start, abs=0.005)


@pytest.mark.parametrize("how", MADE)
def test_an_unchanged_picture_is_found_unchanged(how: str) -> None:
    picture, wanted, _ = MADE[how]
    (edit,) = assess(PHOTO, [picture], checks=["preservation", "alignment", "change"])
    lost = ["alignment"] if wanted.how == "cropped" else []  # what was cropped away is gone
    assert [name for name, verdict in edit.verdicts.items() if verdict.objects] == [*lost, "change"]
    assert edit.lpips < 0.01
    assert edit.verdicts["alignment"].details["frame"]["how"] == wanted.how
    assert (
        edit.verdicts["alignment"].reason
        == f"{find_frame(PHOTO, picture)}; that undone, the picture lies on its source"
    )


def test_it_is_said_in_words() -> None:
    assert str(find_frame(PHOTO, MADE["stretched"][0])) == "the picture was stretched 1.45 times in height"
    assert str(find_frame(PHOTO, MADE["cropped"][0])) == "the picture was cropped to 69% of the source's width"
    assert str(find_frame(PHOTO, MADE["padded"][0])) == "the picture was padded 1.45 times in height"
    strange = Image.effect_noise((400, 400), 90).convert("RGB")
    assert str(find_frame(PHOTO, strange)) == "the picture may have been stretched 1.45 times in height"


@pytest.mark.parametrize("size", [(512, 352), (256, 176), (71, 49), (93, 64), (511, 353)])
def test_rounding_is_no_other_aspect(size: tuple[int, int]) -> None:
    assert find_frame(PHOTO, PHOTO.resize(size)) == Frame()


def test_what_a_crop_does_not_show_is_not_judged() -> None:
    changed = np.array(PHOTO)
    changed[100:160, 220:300] = 255, 0, 0
    (edit,) = assess(PHOTO, [Image.fromarray(changed).crop((100, 0, 452, 352))])
    assert [name for name, verdict in edit.verdicts.items() if verdict.objects] == ["alignment"]
    region = np.asarray(edit.region) > 0
    assert region[100:160, 220:300].all()
    assert not region[:, :100].any()


@pytest.mark.skipif(not REAL.is_dir(), reason="CTXREP_REAL_EDITS names no folder")
def test_real_edits_of_another_aspect() -> None:
    told = {}
    for entry in json.loads((REAL / "manifest.json").read_text("utf-8")):
        pair = [Image.open(REAL / entry[name]).convert("RGB") for name in ("source", "edit")]
        told[entry["id"]] = find_frame(*pair)
    assert (told["026"].how, told["026"].side) == ("stretched", "width")  # "squeezed into a square"
    assert told["038"].how == "cropped"  # "zoomed/cropped about 2 %"
    same = [entry["id"] for entry in json.loads((REAL / "manifest.json").read_text()) if not entry["aspect_changed"]]
    assert {told[number].how for number in same} == {"same"}
