"""What is asked of the model: photographs and open instructions, each with its seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxrep_plugins.shared import PHOTOGRAPHS

from ctxrep_edit import MODELS, InputError

if TYPE_CHECKING:
    from PIL import Image

PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "camera.png")
"""Of those in scikit-image's wheel."""
INSTRUCTIONS = (
    "change the light", "add a sticker", "change the style", "add a frame", "change the weather", "recolour it",
    "change the season", "change the background", "add something funny", "make it look old",
)  # fmt: skip
"""Open ones: each has many right answers. The embedded models know the first six."""
LONGEST = 1536  # pixels: photographs are brought down to it, as models edit at a megapixel or less
SEEDS = 1000  # between the first seeds of two tasks


@dataclass(frozen=True)
class Task:
    """One instruction for one photograph, with the seed of the first edit."""

    number: int
    photo: str
    instruction: str
    seed: int
    image: Image.Image


def tasks(photos: Sequence[Path], instructions: Sequence[str], seed: int) -> list[Task]:
    """All pairs, in an order of which any beginning has the instructions, and the photographs, about equally often."""
    read = [(file.name, _read(file)) for file in photos]
    pairs = [
        (read[(turn + i) % len(read)], instruction)
        for turn in range(len(read))
        for i, instruction in enumerate(instructions)
    ]
    return [
        Task(number, name, instruction, seed + SEEDS * number, image)
        for number, ((name, image), instruction) in enumerate(pairs)
    ]


def photographs(folder: Path | None) -> list[Path]:
    """The pictures in a folder, in the order of their names; None: six of scikit-image's. Raises InputError."""
    if folder is None:
        import skimage

        folder = Path(skimage.__file__).parent / "data"
        return [folder / name for name in PHOTOS if (folder / name).exists()]
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}: name one with photographs for --photos.")
    found = sorted(file for file in folder.iterdir() if file.suffix.lower() in PHOTOGRAPHS and file.is_file())
    if not found:
        raise InputError(f"{folder} holds no {', '.join(PHOTOGRAPHS)}: name a folder with photographs.")
    return found


def instructions(file: Path | None, model: str, pipeline: Any) -> list[str]:
    """Those of a file, one a line; None: ten open ones, or those of them that an embedded model was taught. Raises
    InputError."""
    knows = _knows(model, pipeline)
    if file is None:
        known = [words for words in INSTRUCTIONS if knows(words)]
        if not known:
            raise InputError(f"{model} was taught none of our instructions: give some of its own by --instructions.")
        return known
    try:
        lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The instructions in {file} cannot be read: {error}. Name a text file in UTF-8.") from error
    given = [line for line in lines if line and not line.startswith("#")]
    if not given:
        raise InputError(f"{file} holds no instruction: write one a line, such as 'change the season'.")
    strange = [words for words in given if not knows(words)]
    if strange:
        raise InputError(f"{model} was not taught {strange[0]!r}: leave it out of {file}.")
    return list(dict.fromkeys(given))


def _knows(model: str, pipeline: Any) -> Callable[[str], bool]:
    """Whether the model was taught an instruction; only embedded ones say so."""
    origin = getattr(pipeline, "config", {}).get("_name_or_path") or model
    for embedded in MODELS.all().values():
        if model == embedded.name or Path(origin).resolve() == embedded.folder.resolve():
            return embedded.knows
    return lambda words: True


def _read(file: Path) -> Image.Image:
    from ctxrep_edit import read_image

    image = read_image(file)
    image.thumbnail((LONGEST, LONGEST))
    return image
