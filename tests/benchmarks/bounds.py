"""How well bounds set on some labelled edits judge others: cross-validation over sources, and over models.

    ctxrep-edit bench real FOLDER --json > found.json
    python tests/benchmarks/bounds.py found.json

The bounds of `loss`, `spots` and `colour` are set anew without each source in turn (or each model), and judge its
edits; all else is as `bench real` found it. Of a grid, those are taken that part the kept edits from the others best,
where an edit counts the less the nearer it is to its bound.
"""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

GRID = {
    "loss": np.geomspace(0.006, 0.03, 15), "spots": np.geomspace(0.004, 0.04, 9), "colour": np.geomspace(2, 5, 7),
}  # fmt: skip
SOFT = 0.25  # of a measure's logarithm: so near its bound an edit counts about half
WAYS = ("no mask", "mask")


def objections(pair: dict[str, Any], bounds: np.ndarray) -> np.ndarray:
    """How strongly a pair is objected to under each of the bounds, (m, 3): (m,) in [0, 1], above a half if it is."""
    if pair["told"] == "global" or {*pair["by"]} - {"preservation"}:
        return np.full(len(bounds), float(pair["flagged"]))
    values = np.array([max(pair["measures"].get(name, 0.0), 1e-6) for name in GRID])
    return np.asarray((1 / (1 + (bounds / values) ** (1 / SOFT))).max(1))


def main(file: Path) -> None:
    pairs = json.loads(file.read_text("utf-8"))["pairs"]
    bounds = np.array(list(itertools.product(*GRID.values())))
    objected = np.stack([objections(pair, bounds) for pair in pairs])  # (pairs, bounds)
    kept = np.array([pair["kept"] for pair in pairs])
    given = np.array([pair["given"] for pair in pairs])
    for by in ("group", "model"):
        names = np.array([pair[by] for pair in pairs])
        flagged, chosen = np.zeros(len(pairs), bool), []
        for name in np.unique(names):
            rest = names != name
            gains = [
                objected[rest & (given == way) & ~kept].mean(0) - objected[rest & (given == way) & kept].mean(0)
                for way in WAYS
            ]
            best = int(np.argmax(sum(gains)))
            chosen.append(bounds[best])
            flagged[names == name] = objected[names == name, best] > 0.5
        for way in WAYS:
            shares = [flagged[(given == way) & (kept == wanted)] for wanted in (True, False)]
            print(
                f"by {by}, {way}: {shares[0].mean():.3f} of {len(shares[0])} kept ones flagged, "
                f"{shares[1].mean():.3f} of {len(shares[1])} others"
            )
        low, middle, high = np.percentile(chosen, [0, 50, 100], axis=0)
        for name, *ends in zip(GRID, low, middle, high, strict=True):
            print(f"  {name}: {ends[1]:.4f}, from {ends[0]:.4f} to {ends[2]:.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
