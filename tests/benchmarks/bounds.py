"""How well bounds set on some labelled edits judge others: cross-validation over sources, and over models.

    ctxrep-edit bench real FOLDER --json > found.json
    python tests/benchmarks/bounds.py found.json

The bounds of `loss`, `spots`, `colour` and `tinted` are set anew without each source in turn (or each model), and judge
its edits; all else is as `bench real` found it. Each is set by itself, and by the kept edits alone: half as much again
as what 0.95 of them do not exceed. What faults there were does not bear upon it.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

MEASURES = ("loss", "spots", "colour", "tinted")
KEPT = 0.95
ROOM = 1.5  # times that, so that kept edits not seen before pass
WAYS = ("no mask", "mask")


def bounds(pairs: list[dict[str, Any]]) -> dict[str, float]:
    kept = [pair["measures"] for pair in pairs if pair["kept"]]
    found = {name: [measures[name] for measures in kept if name in measures] for name in MEASURES}
    return {name: ROOM * float(np.quantile(values, KEPT)) for name, values in found.items()}


def flagged(pair: dict[str, Any], most: dict[str, float]) -> bool:
    if pair["told"] == "global" or {*pair["by"]} - {"preservation"}:
        return bool(pair["flagged"])
    return any(pair["measures"].get(name, 0.0) > bound for name, bound in most.items())


def main(file: Path) -> None:
    pairs = json.loads(file.read_text("utf-8"))["pairs"]
    for by in ("group", "model"):
        said, chosen = {}, []
        for name in {pair[by] for pair in pairs}:
            chosen.append(bounds([pair for pair in pairs if pair[by] != name]))
            said |= {(pair["id"], pair["given"]): flagged(pair, chosen[-1]) for pair in pairs if pair[by] == name}
        for way in WAYS:
            shares = [
                [said[pair["id"], way] for pair in pairs if pair["given"] == way and pair["kept"] == wanted]
                for wanted in (True, False)
            ]
            print(
                f"by {by}, {way}: {np.mean(shares[0]):.3f} of {len(shares[0])} kept ones flagged, "
                f"{np.mean(shares[1]):.3f} of {len(shares[1])} others"
            )
        for name in MEASURES:
            low, middle, high = np.percentile([most[name] for most in chosen], [0, 50, 100])
            print(f"  {name}: {middle:.4f}, from {low:.4f} to {high:.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
