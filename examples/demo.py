"""What `make demo` shows: one photograph, two instructions, six plain and six diverse edits.

The photograph is scikit-image's picture of the cat Chelsea (CC0, by Stefan van der Walt), cut to a square.
"""

from pathlib import Path

import skimage.data

from ctxrep_edit import EditSet, contact_sheet, diverse_edit

OUT = Path("out/demo")
INSTRUCTIONS = ("add a sticker", "change the light")  # the first changes a part of the picture, the second all of it
METHODS = {"plain": 0.0, "diverse": "auto"}  # strength of the repulsion
SEED = 0


def main() -> None:
    photograph = skimage.data.chelsea()[:, 75:375]  # (300, 300, 3) uint8
    rows = []
    for instruction in INSTRUCTIONS:
        sets: dict[str, EditSet] = {}
        for method, strength in METHODS.items():
            sets[method] = diverse_edit(photograph, instruction, n=6, strength=strength, seed=SEED)
            sets[method].save(OUT / f"{method}-{instruction.replace(' ', '-')}")
            print(f"{method}: {sets[method]!r}, Vendi score {sets[method].vendi:.2f}")
            rows.append(sets[method].row(f"{method}: {instruction}"))
    sheet = OUT / "sheet.png"
    contact_sheet(rows).save(sheet)
    print(f"Look at {sheet}. The single edits are in the folders beside it: {OUT}/plain-..., {OUT}/diverse-...")


if __name__ == "__main__":
    main()
