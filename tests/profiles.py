"""ICC profiles as cameras, screens and presses have them, written by hand, and the mathematics of one of them."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence

import numpy as np

D50 = 0.9642, 1.0, 0.8249
SRGB = (0.4360, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)  # primaries, adapted to D50
P3 = (0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841)
CURVE = 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045  # of sRGB and of Display P3


def rgb(primaries: Sequence[Sequence[float]] = P3) -> bytes:
    """Of a screen: three primaries, and the tone curve of sRGB."""
    curve = b"para" + struct.pack(">LHH", 0, 3, 0) + b"".join(map(_fixed, CURVE))
    colours = {f"{name}XYZ": _xyz(primary) for name, primary in zip("rgb", primaries, strict=True)}
    return _profile(b"mntr", b"RGB ", b"XYZ ", {**colours, **{f"{name}TRC": curve for name in "rgb"}})


def grey(gamma: float) -> bytes:
    curve = b"curv" + struct.pack(">LLH", 0, 1, round(gamma * 256))
    return _profile(b"mntr", b"GRAY", b"XYZ ", {"kTRC": curve})


def cmyk() -> bytes:
    """Of a press whose inks darken and colour as a few numbers say."""
    table = b"mft1" + struct.pack(">LBBBB", 0, 4, 3, 2, 0) + b"".join(_fixed(float(i % 4 == 0)) for i in range(9))
    table += 4 * bytes(range(256))
    for c, m, y, k in itertools.product((0, 1), repeat=4):  # the last ink turns fastest
        light = max(0.0, 100 - 40 * c - 50 * m - 10 * y) * (1 - 0.9 * k)
        a, b = (-35 * c + 70 * m - 5 * y) * (1 - k), (-50 * c - 5 * m + 90 * y) * (1 - k)
        table += bytes((round(light * 2.55), min(255, round(a) + 128), max(0, min(255, round(b) + 128))))
    return _profile(b"prtr", b"CMYK", b"Lab ", {"A2B0": table + 3 * bytes(range(256))})


def light(values: np.ndarray) -> np.ndarray:
    """sRGB, 0 to 255, as linear light."""
    values = values / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def shown(linear: np.ndarray) -> np.ndarray:
    linear = linear.clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def in_p3(srgb: np.ndarray) -> np.ndarray:
    """(..., 3) of sRGB in Display P3, 8 bits."""
    to_p3 = np.linalg.inv(np.array(P3).T) @ np.array(SRGB).T
    return shown(light(srgb) @ to_p3.T).round().astype(np.uint8)


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[str, bytes]) -> bytes:
    text = b"desc" + struct.pack(">LL", 0, 5) + b"test\0" + bytes(78)
    tags = {"desc": text, "cprt": b"text" + bytes(4) + b"none\0", "wtpt": _xyz(D50), **tags}
    place, head, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        head += name.encode() + struct.pack(">LL", place + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    start = struct.pack(">LLL", place + len(body), 0, 0x02400000) + kind + space + connection + bytes(12) + b"acsp"
    start += bytes(28) + b"".join(map(_fixed, D50))
    return start.ljust(128, b"\0") + struct.pack(">L", len(tags)) + head + body


def _fixed(value: float) -> bytes:
    return struct.pack(">l", round(value * 65536))


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(map(_fixed, values))
