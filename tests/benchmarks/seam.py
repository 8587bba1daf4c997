"""Measures the seam of `restore` at the source's resolution: python tests/benchmarks/seam.py --photos 10

Crops of the held-out photographs, four times larger than kontext-nano works at; right answers of the embedded world's
edits of a part, rendered at the model's size and sent through its autoencoder in sets of six; then enlarged and
restored, as in a run, or pasted hard, without a feather. In bands of eight pixels to either side of the region's
border, the mean of the LPIPS map to the right answer at the source's size, to the edit as it was not restored, and to
the source; and by how much the steps across the border exceed those that edit and source have there, 0 to 255. Printed
are the mean over edits, and the 95th percentile. The right answer at the source's size is the source plus what the edit
changes, enlarged: it has no seam. With --soft the source is as soft as the enlarged edit, so that what is left is the
border alone, not that it is sharp outside and soft inside.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import torch
from ctxrep_plugins.nano import world
from ctxrep_plugins.nano.world import photos
from PIL import Image
from scipy.ndimage import distance_transform_edt, maximum_filter
from torch.nn.functional import interpolate

from ctxrep_edit.faithfulness.case import Case
from ctxrep_edit.faithfulness.lpips import lpips_maps as distances
from ctxrep_edit.faithfulness.restoration import restore
from ctxrep_edit.imaging import to_picture, to_tensor
from ctxrep_edit.sampling.pipelines import load_pipeline
from ctxrep_edit.sampling.run import round_trip

ENLARGED = 4  # times: the source is so much larger than what the model makes
BAND = 8  # pixels of the source, to either side of the border
SIZE = 6  # edits of a set
LANCZOS = Image.Resampling.LANCZOS

COLUMNS = ("right, inside", "right, outside", "edit, inside", "source, outside", "step")
Found = dict[tuple[str, str], dict[str, list[float]]]


def crops(count: int, seed: int) -> Iterator[tuple[Image.Image, tuple[int, int]]]:
    """Crops at the photographs' own resolution, with the (width, height) that the model edits them at."""
    pictures = photos.held_out()
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        picture, (h, w) = pictures[number % len(pictures)], photos.BUCKETS[number % len(photos.BUCKETS)]
        y = rng.integers(picture.shape[0] - ENLARGED * h + 1)
        x = rng.integers(picture.shape[1] - ENLARGED * w + 1)
        yield Image.fromarray(picture[y : y + ENLARGED * h, x : x + ENLARGED * w]), (w, h)


def measure(count: int, seed: int, soft: bool) -> Found:
    """By (region, picture) and measure: one number per edit."""
    found: Found = {}
    pipeline = load_pipeline(progress=False)
    for number, (source, size) in enumerate(crops(count, seed)):
        if soft:
            source = source.resize(size, LANCZOS).resize(source.size, LANCZOS)
        small = to_tensor(source.resize(size, LANCZOS))  # (1, 3, h, w)
        trip = round_trip(pipeline, small)
        picture = small[0].permute(1, 2, 0).numpy()  # (h, w, 3)
        for edit in (edit for edit in world.EDITS if edit.local):
            rng = np.random.default_rng([seed, number])
            answers = [edit.answers[i] for i in rng.integers(len(edit.answers), size=SIZE)]
            exact = np.stack([world.render(edit, picture, answer) for answer in answers])  # (n, h, w, 3)
            edits = round_trip(pipeline, torch.from_numpy(exact).permute(0, 3, 1, 2).contiguous())  # (n, 3, h, w)
            changed = maximum_filter(np.abs(exact - picture).max(-1) > 1 / 255, (0, 3, 3))  # (n, h, w)
            case = Case(small, edits, None, edit.name, False, lambda trip=trip: trip)
            if case.evidence.where == "whole":  # returned as it is
                continue
            change = interpolate(
                torch.from_numpy(exact).permute(0, 3, 1, 2) - small, source.size[::-1], mode="bilinear"
            )
            right = to_tensor(source) + change  # (n, 3, H, W)
            for made, answer, true, guess in zip(edits, right, changed, case.evidence.regions.numpy(), strict=True):
                for kind, region in (("true", true), ("estimated", guess)):
                    _note(found, kind, source, to_picture(made, size), to_picture(answer, source.size), region)
    return found


def _note(
    found: Found, kind: str, source: Image.Image, edit: Image.Image, right: Image.Image, region: np.ndarray
) -> None:
    large = Image.fromarray(region).convert("L").resize(source.size, Image.Resampling.NEAREST)
    enlarged = edit.resize(source.size, LANCZOS)
    within = np.asarray(large) > 0  # (H, W)
    inside = within & (distance_transform_edt(np.pad(within, 1, mode="edge"))[1:-1, 1:-1] <= BAND)
    outside = ~within & (distance_transform_edt(~within) <= BAND)
    if not (inside.any() and outside.any()):
        return
    pictures = {
        "restored": restore(source, edit, large),
        "hard paste": Image.composite(enlarged, source, large),
        "not restored": enlarged,
        "right answer": right,
    }
    for name, picture in pictures.items():
        row = found.setdefault((kind, name), defaultdict(list))
        away = _lpips(picture, right)
        row["right, inside"].append(away[inside].mean())
        row["right, outside"].append(away[outside].mean())
        row["edit, inside"].append(_lpips(picture, enlarged)[inside].mean())
        row["source, outside"].append(_lpips(picture, source)[outside].mean())
        row["step"].append(_step(picture, source, enlarged, within))


def _lpips(a: Image.Image, b: Image.Image) -> np.ndarray:
    return distances(to_tensor(a), to_tensor(b))[0].numpy()  # (H, W)


def _step(picture: Image.Image, source: Image.Image, enlarged: Image.Image, within: np.ndarray) -> float:
    """By how much the steps across the border exceed those of both pictures there, in the mean, 0 to 255."""
    excess = []
    for axis in (0, 1):
        crosses = np.diff(within, axis=axis)
        made, *own = (np.abs(np.diff(np.asarray(one, float), axis=axis)).max(-1) for one in (picture, source, enlarged))
        excess.append((made - np.maximum(*own)).clip(0)[crosses])
    return float(np.concatenate(excess).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=int, default=10, help="How many crops.")
    parser.add_argument("--seed", type=int, default=0, help="Of the crops and answers.")
    parser.add_argument("--soft", action="store_true", help="Crops as soft as what the model makes.")
    arguments = parser.parse_args()
    found = measure(arguments.photos, arguments.seed, arguments.soft)
    print(f"| region | edits | picture | {' | '.join(COLUMNS)} |")
    print("|---" * (3 + len(COLUMNS)) + "|")
    for (kind, way), row in sorted(found.items(), key=lambda item: item[0][0], reverse=True):
        cells = [f"{np.mean(row[what]):.3f}, {np.percentile(row[what], 95):.3f}" for what in COLUMNS]
        print(f"| {kind} | {len(row['step'])} | {way} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
