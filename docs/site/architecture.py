"""Reads who imports whom in ctxrep_edit, prints it, and draws docs/images/architecture.svg of it.

    python docs/site/architecture.py

A wing is what lies directly in ctxrep_edit/, a folder or a file. Imports inside functions count as run-time ones.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "images" / "architecture.svg"
CORE = "ctxrep_edit"
STRANGERS = ("ctxrep_adapters", "ctxrep_plugins")  # they import the public names only
TOP, BOTTOM = "cli", "errors"

Arrow = tuple[str, str]  # from who imports to what is imported


@dataclass(frozen=True)
class House:
    """modules: of ctxrep_edit and of our own adapters and plugins. run: imports at run time. types: for type checkers
    only."""

    modules: tuple[str, ...]
    run: frozenset[Arrow]
    types: frozenset[Arrow]

    @property
    def core(self) -> list[str]:
        return [module for module in self.modules if module.split(".")[0] == CORE]


def read() -> House:
    """The imports as they stand in the files."""
    graphs = [
        grimp.build_graph(CORE, *STRANGERS, exclude_type_checking_imports=exclude, cache_dir=None)
        for exclude in (True, False)
    ]
    run, every = (
        frozenset((a, b) for a in graph.modules for b in graph.find_modules_directly_imported_by(a)) for graph in graphs
    )
    return House(tuple(sorted(graphs[0].modules)), run, every - run)


def within(arrows: Iterable[Arrow]) -> set[Arrow]:
    """Those from one module of ctxrep_edit to another; the root itself holds the version and the public names."""
    return {arrow for arrow in arrows if all(module.startswith(f"{CORE}.") for module in arrow)}


def wing(module: str) -> str:
    return module.split(".")[1]


def between_wings(arrows: Iterable[Arrow]) -> set[Arrow]:
    return {(wing(a), wing(b)) for a, b in within(arrows) if wing(a) != wing(b)}


def reached(arrows: Collection[Arrow]) -> dict[str, set[str]]:
    """From each place to all that can be reached from it along the arrows."""
    known: dict[str, set[str]] = {}
    for a, b in arrows:
        known.setdefault(a, set()).add(b)
        known.setdefault(b, set())
    for middle in known:
        for places in known.values():
            if middle in places:
                places |= known[middle]
    return known


def circles(arrows: Collection[Arrow]) -> list[list[str]]:
    """Groups of places, each of which can be reached from every other."""
    known = reached(arrows)
    found = {tuple(sorted(b for b in known[a] if a in known[b])) for a in known if a in known[a]}
    return [list(group) for group in sorted(found)]


def upward(house: House) -> list[Arrow]:
    """Imports for type checkers only that close a circle: their target imports their source at run time, on some way.

    Between wings, the wings count; within one, its files.
    """
    files, wings = reached(within(house.run)), reached(between_wings(house.run))
    found = []
    for a, b in within(house.types):
        start, end, known = (a, b, files) if wing(a) == wing(b) else (wing(a), wing(b), wings)
        if start in known.get(end, ()):
            found.append((a, b))
    return sorted(found)


def floors(arrows: Collection[Arrow]) -> dict[str, int]:
    """On which floor each place stands: 1 imports nothing, every other is one above the highest that it imports."""
    known = reached(arrows)
    height: dict[str, int] = {}
    for place in sorted(known, key=lambda place: len(known[place])):
        height[place] = 1 + max((height[b] for a, b in arrows if a == place), default=0)
    return height


def needed(arrows: Collection[Arrow]) -> set[Arrow]:
    """Without the arrows that a longer way makes superfluous."""
    known = reached(arrows)
    return {(a, b) for a, b in arrows if not any(b in known[middle] for start, middle in arrows if start == a)}


# The picture: a row per floor, and the arrows that no longer way makes superfluous.

LEFT, WIDTH, TOP_EDGE, GAP = 46, 640, 20, 30  # pixels, as all that follows
LANE, BETWEEN, LINE_HEIGHT = 70, 22, 16
DOOR, SIDE, SIDE_WIDTH = 722, 794, 186
MONO = ' font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" xml:space="preserve"'
FILLS = ("#f0eee9", "#e9eef0", "#fdebd0", "#e2f1e4", "#e2f1e4", "#e2f1e4", "#dfeafb", "#edf3fc")  # from the ground up
INK, PALE, LINE = "#1f2933", "#5b6773", "#8794a1"


@dataclass(frozen=True)
class Box:
    """name: of a wing, or empty where an arrow only passes by."""

    name: str
    x: float
    y: float
    width: float
    height: float
    lines: tuple[str, ...] = ()

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


def draw(house: House) -> str:
    """The picture as SVG: the same text wherever the imports and the first lines of docstrings are the same."""
    arrows = needed(between_wings(house.run))
    boxes, edges, bottom = place(house, arrows)
    rows = sorted({(box.y, box.height) for box in boxes.values()}, reverse=True)
    shapes = [tag(str(i + 1), x=18, y=y + tall / 2 + 4, fill=LINE, size=12) for i, (y, tall) in enumerate(rows)]
    shapes += [arrow(boxes[a], boxes[b]) for a, b in edges]
    for box in boxes.values():
        shapes += framed(box, FILLS[min(floors(arrows)[box.name], len(FILLS)) - 1]) if box.name else []
    shapes += outside(house, boxes["plugins", 0])
    style = "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"
    head = '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    head += f'<path d="M0 0 L8 4 L0 8 z" fill="{LINE}"/></marker>'
    width, height = SIDE + SIDE_WIDTH + 20, round(bottom + 20)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {style} role="img">',
        "<title>The wings of ctxrep_edit: imports go down</title>",
        f"<defs>{head}</defs>",
        f'<rect width="{width}" height="{height}" rx="10" fill="#ffffff"/>',
        *shapes,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


Key = tuple[str, int]  # a wing and 0, or the name of an arrow and the floor on which it passes by


def place(house: House, arrows: Collection[Arrow]) -> tuple[dict[Key, Box], list[tuple[Key, Key]], float]:
    """The boxes, what is joined by arrows, and where the lowest row ends. Who is imported stands below who imports."""
    height = floors(arrows)
    rows: dict[int, list[Key]] = {}
    for name in sorted(height):
        rows.setdefault(height[name], []).append((name, 0))
    edges: list[tuple[Key, Key]] = []
    for a, b in sorted(arrows):  # an arrow past a floor takes a lane there
        way = [(a, 0), *((f"{a}>{b}", floor) for floor in range(height[a] - 1, height[b], -1)), (b, 0)]
        for key in way[1:-1]:
            rows[key[1]].append(key)
        edges += pairwise(way)
    boxes: dict[Key, Box] = {}
    y: float = TOP_EDGE
    for floor in sorted(rows, reverse=True):
        centres = {key: [boxes[a].middle for a, b in edges if b == key] for key in rows[floor]}
        order = sorted(rows[floor], key=lambda key: sum(centres[key]) / len(centres[key]) if centres[key] else 0)
        lanes = sum(bool(key[1]) for key in order)
        wide = (WIDTH - lanes * LANE - BETWEEN * (len(order) - 1)) / (len(order) - lanes)
        texts = {key: described(house, key[0], wide) for key in order if not key[1]}
        tall = 36 + 16 * max(len(lines) for lines in texts.values())
        x: float = LEFT
        for key in order:
            width = LANE if key[1] else wide
            boxes[key] = Box("" if key[1] else key[0], x, y, width, tall, texts.get(key, ()))
            x += width + BETWEEN
        y += tall + GAP
    return boxes, edges, y - GAP


def described(house: House, name: str, width: float) -> tuple[str, ...]:
    """What stands in the box of a wing: the first sentence of its docstring, its files, what it names upwards."""
    path = ROOT / CORE / name / "__init__.py"
    path = path if path.exists() else path.parent.with_suffix(".py")
    said = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").partition("\n\n")[0]
    said = " ".join(said.split()).replace("`", "").removesuffix(".")
    files = parts(house, f"{CORE}.{name}")
    above = sorted({wing(b) for a, b in upward(house) if wing(a) == name != wing(b)})
    types = [f"^for type checkers only, upwards: {', '.join(above)}"] if above else []
    return (*textwrap.wrap(said, int((width - 28) / 6.7)), *listed(files, width), *types)


def parts(house: House, package: str) -> list[str]:
    """The modules and folders directly in it."""
    below = [module.removeprefix(f"{package}.") for module in house.modules if module.startswith(f"{package}.")]
    return sorted({name.partition(".")[0] for name in below})


def listed(names: Iterable[str], width: float) -> list[str]:
    return [f"/{line}" for line in textwrap.wrap("  ".join(names), int((width - 28) / 6.7))]


def tag(text: str, *, x: float, y: float, fill: str, size: float, more: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" fill="{fill}"{more}>{escape(text)}</text>'


def framed(box: Box, fill: str) -> list[str]:
    shapes = [
        f'<rect x="{box.x:.0f}" y="{box.y:.0f}" width="{box.width:.0f}" height="{box.height:.0f}" rx="7" '
        f'fill="{fill}" stroke="{LINE}" stroke-opacity="0.45"/>',
        tag(box.name, x=box.x + 14, y=box.y + 23, fill=INK, size=15, more=' font-weight="600"'),
    ]
    for i, line in enumerate(box.lines):
        more = {"/": MONO, "^": ' font-style="italic"'}.get(line[0], "")
        ink, size = (PALE, 11) if more else (INK, 12)
        y = box.y + 43 + LINE_HEIGHT * i
        shapes.append(tag(line.lstrip("/^"), x=box.x + 14, y=y, fill=ink, size=size, more=more))
    return shapes


def arrow(start: Box, end: Box) -> str:
    """A line straight down where the boxes overlap enough, else a slanted one between their middles."""
    narrow, wide = sorted((start, end), key=lambda box: box.width)
    below = wide.x + 20 <= narrow.middle <= wide.x + wide.width - 20
    x1, x2 = (narrow.middle, narrow.middle) if below else (start.middle, end.middle)
    y1 = start.y + start.height if start.name else start.y
    y2 = end.y - 2 if end.name else end.y
    return stroke(f"M{x1:.0f} {y1:.0f} L{x2:.0f} {y2:.0f}", tip=bool(end.name))


def stroke(path: str, *, tip: bool = True, more: str = "") -> str:
    end = ' marker-end="url(#tip)"' if tip else ""
    return f'<path d="{path}" fill="none" stroke="{LINE}" stroke-width="1.6"{end}{more}/>'


def outside(house: House, seam: Box) -> list[str]:
    """The public door, who comes in by it, and how the seam finds them."""
    y, bottom = float(TOP_EDGE), seam.y - GAP
    shapes = [
        f'<rect x="{DOOR}" y="{y:.0f}" width="32" height="{bottom - y:.0f}" rx="7" fill="{INK}"/>',
        f'<g transform="translate({DOOR + 21} {(y + bottom) / 2:.0f}) rotate(-90)">'
        + tag(f"from {CORE} import ...", x=0, y=0, fill="#ffffff", size=14, more=' text-anchor="middle"')
        + "</g>",
    ]
    theirs = [(name, ("Our own, as strangers", *listed(parts(house, name), SIDE_WIDTH))) for name in STRANGERS]
    theirs.append(("yours", ("Anything with an entry", "point")))
    for name, lines in theirs:
        box = Box(name, SIDE, y, SIDE_WIDTH, 38 + LINE_HEIGHT * len(lines), lines)
        way = f"M{SIDE} {y + box.height / 2:.0f} L{DOOR + 34} {y + box.height / 2:.0f}"
        shapes += [*framed(box, "#f7f1fa"), stroke(way)]
        y += box.height + BETWEEN
    side, level, end = SIDE + SIDE_WIDTH / 2, seam.y + seam.height / 2, y - BETWEEN + 14
    way = f"M{seam.x + seam.width:.0f} {level:.0f} L{side:.0f} {level:.0f} L{side:.0f} {end + 2:.0f}"
    return [
        *shapes,
        stroke(f"M{SIDE} {end - 6:.0f} L{SIDE} {end:.0f} L{SIDE + SIDE_WIDTH} {end:.0f} l0 -6", tip=False),
        stroke(way, more=' stroke-dasharray="5 4"'),
        tag("loads them by entry points", x=DOOR - 20, y=level + 18, fill=PALE, size=12),
    ]


def main() -> None:
    house = read()
    run, every = within(house.run), within(house.run | house.types)
    height = floors(between_wings(house.run))
    print(f"modules           {len(house.core)}")
    print(f"arrows            {len(run)} at run time, {len(every - run)} more for types only")
    print(f"wings             {len(height)}, {len(between_wings(house.run))} arrows between them")
    print(f"floors            {height[TOP] - height[BOTTOM] + 1} from {TOP} to {BOTTOM}")
    print("run-time circles ", len(circles(run)), *map(str, circles(run)))
    print("type-only circles", len(upward(house)), *map("\n   {0[0]} -> {0[1]}".format, upward(house)))
    PICTURE.write_text(draw(house), "utf-8")


if __name__ == "__main__":
    main()
