"""One edit of a set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ctxrep_edit.imaging.reading import open_picture
from ctxrep_edit.plugins.contracts import Verdict
from ctxrep_edit.results.png import encode_png

if TYPE_CHECKING:
    from ctxrep_edit.sampling.traces import Trace


@dataclass(frozen=True, eq=False, repr=False)
class Edit:
    """One candidate.

    image: RGB in sRGB, in the source's aspect; RGBA where it was restored onto a source with transparency. seed: of
    this candidate's own noise: `diverse_edit(..., n=1, seed=edit.seed)` starts from it; None for a picture that was
    given, and on the way of a walk. index: position in the set, from 0. verdicts: what each check says, by the check's
    name; empty where none was asked. strength: with which it was moved; 0 for a plain edit, None where the raw eta was
    given, and in a walk. region: white where the edit was allowed or found, of the image's size; None where no check
    looked. name: of the file that was given, else "". trace: by what others can be made unlike it, or steered by it;
    not pickled, and None where nothing is known of it. value: which of the values of `vary` it was asked for; None
    without.
    """

    image: Image.Image
    seed: int | None
    index: int
    verdicts: Mapping[str, Verdict]
    strength: float | None
    region: Image.Image | None = None
    name: str = ""
    trace: Trace | None = None
    value: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "trace": None}

    @property
    def file(self) -> str:
        """Under which name `EditSet.save` writes it, such as `edit-1.png` for the first."""
        return f"edit-{self.index + 1}.png"

    @property
    def label(self) -> str:
        """What to call it: its file's name, or the value that it was asked for, if any, and its seed or its number."""
        own = f"edit {self.index + 1}" if self.seed is None else f"seed {self.seed}"
        return self.name or (own if self.value is None else f"{self.value}, {own}")

    @property
    def faithful(self) -> bool:
        """Whether no check objects."""
        return not any(verdict.objects for verdict in self.verdicts.values())

    @property
    def verdict(self) -> Verdict | None:
        """The verdict that decides: the first that objects, else the first; None where no check was asked."""
        said = [verdict for verdict in self.verdicts.values() if verdict.kept is not None]
        return next((verdict for verdict in said if verdict.objects), said[0] if said else None)

    @property
    def lpips(self) -> float | None:
        """The loss outside: LPIPS that was lost where nothing should have changed, beyond what the autoencoder costs,
        >= 0; of an edit of the whole picture, LPIPS to the source. None where `preservation` was not asked."""
        verdict = self.verdicts.get("preservation")
        return verdict.value if verdict else None

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pixels, as JSON takes it."""
        verdicts = {name: verdict.to_dict() for name, verdict in self.verdicts.items()}
        named = {"name": self.name} if self.name else {}
        named |= {} if self.value is None else {"value": self.value}
        stated = {"index": self.index, "file": self.file, **named, "seed": self.seed, "strength": self.strength}
        return {**stated, "verdicts": verdicts}

    def __repr__(self) -> str:
        word = "kept" if self.faithful or self.verdict is None else self.verdict.word
        said = "" if self.verdict is None else f", {word}: {self.verdict.reason}"
        width, height = self.image.size
        return f"<Edit {self.index + 1}: {self.label}, {width} x {height} pixels{said}>"

    def _repr_png_(self) -> bytes:
        return encode_png(self.image)


def loaded(stated: Mapping[str, Any], folder: Path) -> Edit:
    """From what `Edit.to_dict` says, and the picture beside it. Raises InputError, KeyError or TypeError."""
    verdicts = {name: Verdict(**verdict) for name, verdict in stated["verdicts"].items()}
    name = Path(stated["file"]).name
    return Edit(
        open_picture(folder / name, name),
        stated["seed"],
        stated["index"],
        verdicts,
        stated["strength"],
        None,
        stated.get("name", ""),
        value=stated.get("value"),
    )
