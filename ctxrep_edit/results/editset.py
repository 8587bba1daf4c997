"""The result: edits that know where they come from."""

from __future__ import annotations

import base64
import html
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

from PIL import Image

from ctxrep_edit.errors import InputError
from ctxrep_edit.imaging.reading import open_picture, read_source
from ctxrep_edit.plugins.contracts import Embedder, Exporter, Verdict
from ctxrep_edit.results import spread
from ctxrep_edit.results.aside import as_path
from ctxrep_edit.results.png import encode_png
from ctxrep_edit.results.sheet import Cell, Row, contact_sheet

FORMS = ("png", "sheet", "json")
SOURCE = "source.png"


@dataclass(frozen=True, eq=False, repr=False)
class Edit:
    """One candidate.

    image: RGB in sRGB, in the source's aspect; RGBA where it was restored onto a source with transparency. seed: of
    this candidate's own noise: `diverse_edit(..., n=1, seed=edit.seed)` starts from it; None for a picture that was
    given. index: position in the set, from 0. verdicts: what each check says, by the check's name; empty where none was
    asked. strength: with which it was moved; 0 for a plain edit, None where the raw eta was given. region: white where
    the edit was allowed or found, of the image's size; None where no check looked. name: of the file that was given,
    else "".
    """

    image: Image.Image
    seed: int | None
    index: int
    verdicts: Mapping[str, Verdict]
    strength: float | None
    region: Image.Image | None = None
    name: str = ""

    @property
    def file(self) -> str:
        """Under which name `EditSet.save` writes it, such as `edit-1.png` for the first."""
        return f"edit-{self.index + 1}.png"

    @property
    def label(self) -> str:
        """What to call it: its file's name, its seed, or its number."""
        return self.name or (f"edit {self.index + 1}" if self.seed is None else f"seed {self.seed}")

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
        stated = {"index": self.index, "file": self.file, **named, "seed": self.seed, "strength": self.strength}
        return {**stated, "verdicts": verdicts}

    def __repr__(self) -> str:
        said = (
            "" if self.verdict is None else f", {'kept' if self.faithful else self.verdict.word}: {self.verdict.reason}"
        )
        width, height = self.image.size
        return f"<Edit {self.index + 1}: {self.label}, {width} x {height} pixels{said}>"

    def _repr_png_(self) -> bytes:
        return encode_png(self.image)


@dataclass(frozen=True, eq=False, repr=False)
class EditSet(Sequence[Edit]):
    """The edits of one picture and instruction, with the recipe that makes them again.

    A slice is a set too: of fewer edits, each with the index that it had, and with the recipe of them all. Sets and
    edits are told apart by identity.

    source: the picture at the edits' size: as the model saw it, in the source's aspect, or itself, restored.
    contextual_vendi: Vendi score (1 to n) of the contextual tokens before and after repulsion, averaged over blocks and
    steps; None without repulsion. seconds: of sampling, without loading and checking. dropped: unfaithful edits that
    on_unfaithful="drop" left out. credits: what the EXIF of the source's file says of "artist" and "copyright".
    """

    instruction: str
    source: Image.Image
    edits: tuple[Edit, ...]
    recipe: Mapping[str, Any]
    contextual_vendi: tuple[float, float] | None
    seconds: float
    dropped: tuple[Edit, ...] = ()
    credits: Mapping[str, str] = field(default_factory=dict)

    @overload
    def __getitem__(self, index: int) -> Edit: ...
    @overload
    def __getitem__(self, index: slice) -> EditSet: ...
    def __getitem__(self, index: int | slice) -> Edit | EditSet:
        return replace(self, edits=self.edits[index]) if isinstance(index, slice) else self.edits[index]

    def __len__(self) -> int:
        return len(self.edits)

    def __iter__(self) -> Iterator[Edit]:
        return iter(self.edits)

    @property
    def images(self) -> list[Image.Image]:
        return [edit.image for edit in self.edits]

    @cached_property
    def vendi(self) -> float:
        """Vendi score of the pictures, 1 (all alike) to n, over the AlexNet features of `alexnet_features`."""
        return self.vendi_in("alexnet")

    def vendi_in(self, embedder: str | Embedder) -> float:
        """Vendi score of the pictures, 1 (all alike) to n, over the features of an embedder, by name or as an object.

        Raises InputError where there is none of that name, and for a set of which every edit was dropped.
        """
        return spread.vendi(self.images, self.recipe["size"], embedder)

    @cached_property
    def distinct(self) -> int:
        """How many different edits there are, 1 to n, by `distinct_in` over "alexnet-layout"."""
        return self.distinct_in("alexnet-layout")

    def distinct_in(self, embedder: str | Embedder, apart: float | None = None) -> int:
        """How many different edits there are, 1 to n: in their order, each that is farther than `apart` from all that
        were counted before it counts.

        embedder: in whose features, by name or as an object; far is one minus the cosine, 0 to 2. apart: None takes the
        embedder's own.
        Raises InputError where there is none of that name or it states no `apart`, and for a set of which every edit
        was dropped.
        """
        return spread.distinct(self.images, self.recipe["size"], embedder, apart)

    def row(self, heading: str | None = None) -> Row:
        """The set as a row of a contact sheet."""
        cells = [Cell(self.source, "source")]
        for edit in self.edits:
            score = "" if edit.lpips is None else f", LPIPS {edit.lpips:.3f}"
            cells.append(Cell(edit.image, f"{edit.label}{score}", edit.verdict.kept if edit.verdict else None))
        return Row(heading or self.instruction, cells)

    def sheet(self) -> Image.Image:
        """Source and edits in one labelled picture; captions are green where the check passed, red where not."""
        return contact_sheet([self.row()])

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pixels, as JSON takes it."""
        return {
            "instruction": self.instruction,
            "recipe": dict(self.recipe),
            "contextual_vendi": list(self.contextual_vendi) if self.contextual_vendi else None,
            "seconds": round(self.seconds, 3),
            "edits": [edit.to_dict() for edit in self.edits],
            "dropped": [{**edit.to_dict(), "file": None} for edit in self.dropped],
        }

    def save(
        self,
        folder: str | os.PathLike[str],
        exporters: Sequence[str | Exporter] = FORMS,
        *,
        keep_credits: bool = False,
    ) -> list[Path]:
        """Writes the set in the form of each exporter, by name or as an object; returns the paths of its files.

        By default `edit-1.png` ... (the recipe in a text chunk), `source.png`, `sheet.png` and `edits.json`, from which
        `load` gives the set back. All or nothing: the files are written aside and moved when complete.

        An earlier set of ours in the folder is replaced: a new `edits.json` also removes the pictures that the earlier
        one names and that are not overwritten. What is not ours, and the picture that was edited, whatever it is
        called, are never replaced by pictures or `edits.json`: OutputError. What exporters of others write replaces
        files of the same names.

        keep_credits: write the source's `credits` into the EXIF of the pictures; exporters are shown none otherwise.

        Raises OutputError, InputError for an unknown name.
        """
        from ctxrep_edit.results.export import export
        from ctxrep_edit.results.places import Over

        shown = self if keep_credits else replace(self, credits={})
        return export({"": shown}, folder, exporters, Over(self.recipe.get("source")))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> EditSet:
        """The set that `save` wrote into `folder`: its pictures, seeds, verdicts, recipe and source. Regions and
        dropped edits are not written. Raises InputError where there is no set, or a part of it is missing or broken.
        """
        place = as_path(folder, "folder")
        try:
            stated = json.loads((place / "edits.json").read_text("utf-8"))
            edits = tuple(_edit(entry, place) for entry in stated["edits"])
            vendi = stated["contextual_vendi"]
            source = place / SOURCE
            return cls(
                stated["instruction"], open_picture(source, SOURCE), edits, stated["recipe"],
                None if vendi is None else (vendi[0], vendi[1]), stated["seconds"],
                credits=read_source(source, name=SOURCE).credits,
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise InputError(
                f"No set of edits can be read from {place}: {_cause(error)}. Name a folder that EditSet.save has "
                "written, with its edits.json and all of its pictures."
            ) from error

    def report(self, file: str | os.PathLike[str]) -> Path:
        """Writes one HTML page that needs nothing else: source, edits, region outlines, LPIPS maps, a before/after
        slider, verdicts and recipe. Returns its path. Raises OutputError; WeightsError without the LPIPS weights.
        """
        from ctxrep_edit.results.export import export_file

        return export_file(self, file, "report", "report.html")

    def __repr__(self) -> str:
        checked = [edit.faithful for edit in self.edits if edit.verdict]
        kept = f", {sum(checked)} of {len(checked)} kept the rest" if checked else ""
        kept += f", {len(self.dropped)} dropped" if self.dropped else ""
        known = [edit.seed for edit in self.edits if edit.seed is not None]
        seeds = f", seeds {known[0]}-{known[-1]}" if known else ""
        return f"<EditSet {self.instruction!r}: {len(self)} edits{seeds}{kept}, {self.seconds:.1f} s>"

    def _repr_png_(self) -> bytes:
        return encode_png(self.sheet())

    def _repr_html_(self) -> str:
        picture = base64.b64encode(self._repr_png_()).decode()
        return f'<p>{html.escape(repr(self))}</p><img alt="contact sheet" src="data:image/png;base64,{picture}">'


def _edit(stated: Mapping[str, Any], folder: Path) -> Edit:
    """From what `Edit.to_dict` says, and the picture beside it."""
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
    )


def _cause(error: Exception) -> str:
    """What is wrong with a saved set, in words."""
    if isinstance(error, InputError):  # a picture
        return str(error).removesuffix(".")
    if isinstance(error, OSError):
        return f"edits.json: {error.strerror}"
    return f"edits.json states no {error}" if isinstance(error, KeyError) else f"edits.json is broken ({error})"
