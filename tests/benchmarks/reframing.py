"""How often a planted reframing is named rightly: python tests/benchmarks/reframing.py --times 3

Photographs of scikit-image get a local edit (a piece of another one), are shifted, zoomed, stretched, cropped or
padded, and lose what an autoencoder loses: fine detail, some grain, a JPEG, 30 to 35 dB in all. What `alignment` says
of them in words is read and compared: every part of the reframing of 1 % or more must be named, its direction right
and its size right within half a percent or a fifth; and no other part of 1 % or more. --misses prints what was said
instead.
"""

from __future__ import annotations

import argparse
import io
import re
from collections import defaultdict

import numpy as np
from PIL import Image
from scipy.stats import binomtest
from skimage import data
from skimage.transform import AffineTransform, warp

from ctxrep_edit import assess

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "camera", "coins", "motorcycle", "retina")
KINDS = {
    "nothing": "same aspect", "shifted": "same aspect", "zoomed": "same aspect", "stretched": "same aspect",
    "shifted and zoomed": "same aspect", "to another aspect": "aspect", "to a square": "aspect", "cropped": "aspect",
    "padded": "aspect", "stretched a little": "aspect",
}  # fmt: skip
LEAST, SLACK, SHARE = 1.0, 0.5, 0.2  # percent that must be named; how near; or what share of it
LONGEST = 640  # pixels of a photograph
Parts = dict[str, float]


def photograph(name: str) -> Image.Image:
    picture = data.stereo_motorcycle()[0] if name == "motorcycle" else getattr(data, name)()
    image = Image.fromarray(picture).convert("RGB")
    image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    return image


def edited(source: Image.Image, other: Image.Image, rng: np.random.Generator) -> Image.Image:
    """With a piece of another photograph in it, of a twentieth to a tenth of the picture."""
    w, h = source.size
    side = (np.array([w, h]) * rng.uniform(0.22, 0.32)).astype(int)
    x, y = (int(rng.integers(0, room)) for room in np.array([w, h]) - side)
    left, top = (int(rng.integers(0, room)) for room in np.maximum(1, np.array(other.size) - side))
    result = source.copy()
    result.paste(other.crop((left, top, left + int(side[0]), top + int(side[1]))), (x, y))
    return result


def redrawn(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """As an autoencoder and a JPEG leave it."""
    w, h = picture.size
    soft = picture.resize((round(w * 0.75), round(h * 0.75)), Image.Resampling.LANCZOS).resize((w, h), 3)
    noisy = np.asarray(soft, np.float32) + rng.normal(0, 4, (h, w, 1))
    file = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return Image.open(file).convert("RGB")


def moved(picture: Image.Image, dx: float, dy: float, wide: float, tall: float) -> Image.Image:
    """Shifted by shares of the sides, and zoomed about the centre; mirrored at the border where nothing is known."""
    w, h = picture.size
    centre = np.array([w - 1, h - 1]) / 2
    there = AffineTransform(scale=(wide, tall), translation=(*centre, dx * w, dy * h) - centre * (wide, tall))
    array = warp(np.asarray(picture, np.float32) / 255, there.inverse, order=3, mode="symmetric")
    return Image.fromarray((array.clip(0, 1) * 255).round().astype(np.uint8))


def signed(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high) * rng.choice((-1, 1)))


def reframed(picture: Image.Image, kind: str, rng: np.random.Generator) -> tuple[Image.Image, Parts]:
    """And the parts in percent: right, down, zoom, tall (stretch in height); stretched, cropped or padded in a side."""
    w, h = picture.size
    if KINDS[kind] == "same aspect":
        dx, dy = (signed(rng, 0.012, 0.05) * bool("shifted" in kind) for _ in range(2))
        zoom = 1 + signed(rng, 0.015, 0.09) * ("zoomed" in kind)
        stretch = 1 + signed(rng, 0.015, 0.08) * (kind == "stretched")
        parts = {"right": 100 * dx, "down": 100 * dy, "zoom": 100 * (zoom - 1), "tall": 100 * (stretch - 1)}
        return moved(picture, dx, dy, zoom / stretch**0.5, zoom * stretch**0.5), parts
    side = str(rng.choice(("width", "height")))
    if kind == "to a square":
        side = "height" if w > h else "width"
        parts = {} if w == h else {f"stretched {side}": 100 * max(w / h, h / w)}
        return picture.resize((min(w, h),) * 2, Image.Resampling.LANCZOS), parts
    how = {"cropped": (0.6, 0.96), "padded": (1.04, 1.4), "stretched a little": (1.015, 1.05)}.get(kind, (1.05, 1.5))
    factor = float(rng.uniform(*how))
    size = (round(w * factor), h) if side == "width" else (w, round(h * factor))
    factor = size[0] / w * size[1] / h
    if kind == "cropped":
        x, y = (int(rng.integers(0, room + 1)) for room in (w - size[0], h - size[1]))
        return picture.crop((x, y, x + size[0], y + size[1])), {f"cropped {side}": 100 * factor}
    if kind == "padded":
        x, y = (int(rng.integers(0, room + 1)) for room in (size[0] - w, size[1] - h))
        if rng.random() < 0.5:  # one colour, or more of the picture
            page = Image.new("RGB", size, str(rng.choice(("white", "black", "grey"))))
            page.paste(picture, (x, y))
        else:
            room = ((y, size[1] - h - y), (x, size[0] - w - x), (0, 0))
            page = Image.fromarray(np.pad(np.asarray(picture), room, "symmetric"))
        return page, {f"padded {side}": 100 * factor}
    return picture.resize(size, Image.Resampling.LANCZOS), {f"stretched {side}": 100 * factor}


def named(words: str) -> Parts:
    """What the words of `alignment` say, as parts."""
    found = {}
    for size, way in re.findall(r"([\d.]+) % (?:to the )?(right|left|down|up)", words):
        found["right" if way in ("right", "left") else "down"] = float(size) * (-1 if way in ("left", "up") else 1)
    for way, size in re.findall(r"zoomed (in|out) by ([\d.]+) %", words):
        found["zoom"] = float(size) * (1 if way == "in" else -1)
    frame, _, motion = words.partition("; that undone, ") if "; that undone, " in words else ("", "", words)
    for size, side in re.findall(r"stretched ([\d.]+) times in (width|height)", motion):
        found["tall"] = 100 * ((float(size) if side == "height" else 1 / float(size)) - 1)
    for how, size, side in re.findall(r"(stretched|padded) ([\d.]+) times in (width|height)", frame):
        found[f"{how} {side}"] = 100 * float(size)
    for size, side in re.findall(r"cropped to ([\d.]+)% of the source's (width|height)", frame):
        found[f"cropped {side}"] = float(size)
    return found


def right(planted: Parts, said: Parts) -> bool:
    for part in planted.keys() | said.keys():
        there, told = planted.get(part, 0.0), said.get(part, 0.0)
        if " " in part:  # the frame, whose size is in percent of a side
            if abs(told - there) > max(2.0, SHARE * abs(there - 100)):
                return False
        elif max(abs(there), abs(told)) >= LEAST and abs(told - there) > max(SLACK, SHARE * abs(there)):
            return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=3, help="reframings of each kind and photograph [3]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--misses", action="store_true")
    arguments = parser.parse_args()
    pictures, scores, losses = [photograph(name) for name in PHOTOGRAPHS], defaultdict(list), []
    for kind in KINDS:
        for number, source in enumerate(pictures):
            for time in range(arguments.times):
                rng = np.random.default_rng([arguments.seed, number, time, list(KINDS).index(kind)])
                edit = edited(source, pictures[(number + 1 + time) % len(pictures)], rng)
                frame, planted = reframed(edit, kind, rng)
                final = redrawn(frame, rng)
                losses.append(np.square(np.asarray(final, float) - np.asarray(frame, float)).mean())
                verdict = assess(source, [final], checks=["alignment"])[0].verdicts["alignment"]
                scores[kind].append(right(planted, named(verdict.reason)))
                if arguments.misses and not scores[kind][-1]:
                    print(PHOTOGRAPHS[number], kind, {k: round(v, 1) for k, v in planted.items() if v}, verdict.reason)
    print("| reframing | named rightly |\n|---|---|")
    for kind, score in scores.items():
        print(f"| {kind} | {told(score)} |")
    for group in ("same aspect", "aspect"):
        print(f"| all: {group} | {told([x for kind in KINDS if KINDS[kind] == group for x in scores[kind]])} |")
    decibels = 10 * np.log10(255**2 / np.array(losses))
    print(f"\nRedrawn at {np.percentile(decibels, 10):.0f} to {np.percentile(decibels, 90):.0f} dB (80 % of them)")


def told(score: list[bool]) -> str:
    ends = binomtest(sum(score), len(score)).proportion_ci(method="wilson")
    return f"{np.mean(score):.2f} ({ends.low:.2f} to {ends.high:.2f}) of {len(score)}"


if __name__ == "__main__":
    main()
