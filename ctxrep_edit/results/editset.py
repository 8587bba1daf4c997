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
from typing import TYPE_CHECKING, Any, overload

from PIL import Image

from ctxrep_edit.errors import InputError
from ctxrep_edit.imaging.reading import open_picture, read_source
from ctxrep_edit.plugins.contracts import Embedder, Exporter
from ctxrep_edit.results import spread
from ctxrep_edit.results.aside import as_path
from ctxrep_edit.results.edit import Edit, loaded
from ctxrep_edit.results.places import BANK
from ctxrep_edit.results.png import encode_png
from ctxrep_edit.results.sheet import Cell, Row, contact_sheet
from ctxrep_edit.sampling.repeats import LAYOUT

if TYPE_CHECKING:
    from ctxrep_edit.results.continuing import Asked, OnEdit
    from ctxrep_edit.sampling.asked import Distinct
    from ctxrep_edit.sampling.run import OnStep

FORMS = ("png", "sheet", "json")
SOURCE = "source.png"


@dataclass(frozen=True, eq=False, repr=False)
class EditSet(Sequence[Edit]):
    """The edits of one picture and instruction, with the recipe that makes them again.

    A slice is a set too: of fewer edits, each with the index that it had, and with the recipe of them all. Sets and
    edits are told apart by identity.

    source: the picture at the edits' size: as the model saw it, in the source's aspect, or itself, restored.
    contextual_vendi: Vendi score (1 to n) of the contextual tokens before and after repulsion, averaged over blocks and
    steps; None without repulsion. seconds: of sampling, without loading and checking. dropped: unfaithful edits that
    on_unfaithful="drop" left out. credits: what the EXIF of the source's file says of "artist" and "copyright".
    asked: what `more` goes by; not pickled, and None where nothing is known of it.
    """

    instruction: str
    source: Image.Image
    edits: tuple[Edit, ...]
    recipe: Mapping[str, Any]
    contextual_vendi: tuple[float, float] | None
    seconds: float
    dropped: tuple[Edit, ...] = ()
    credits: Mapping[str, str] = field(default_factory=dict)
    asked: Asked | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "asked": None}

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

    def __add__(self, other: EditSet) -> EditSet:
        """Both sets as one, of the same picture and instruction, numbered anew; its recipe has those of both as
        `joined`. Raises InputError for other sets."""
        from ctxrep_edit.results.continuing import joined

        return joined(self, other)

    def more(
        self, n: int = 4, *, unlike: Sequence[Edit] | None = None, distinct: Distinct | None = None,
        pipeline: Any = None, progress: bool = True, on_step: OnStep | None = None, on_edit: OnEdit | None = None,
    ) -> EditSet:  # fmt: skip
        """n further edits of the same picture, asked for as these were, and repelled from them: a set of its own, to
        be joined with this one by `+`. Their seeds are none that this set started from.

        unlike: the edits to be repelled from, of this set or of others of the picture; None: all of this set.
        distinct: "retry" makes those again that repeat one of these, or another of the new ones, as `diverse_edit`
        does; None: as this set was asked for. pipeline: of the same model, where the one that made these is gone. Plain
        edits repel nothing: more of them are just that. on_edit: called with each edit as soon as it is made and
        judged, as `stream_edits` hands it over.

        Raises InputError where these have left nothing to be unlike, where it was another model (also with a LoRA
        loaded in between), or where a pipeline is needed; and what `diverse_edit` does.
        """
        from ctxrep_edit.results.continuing import more

        return more(self, n, unlike, distinct, pipeline, on_edit, progress=progress, on_step=on_step)

    def between(
        self, one: int | Edit, other: int | Edit, count: int = 5, *, beyond: float = 0.0, pipeline: Any = None,
        progress: bool = True, on_step: OnStep | None = None, on_edit: OnEdit | None = None,
    ) -> EditSet:  # fmt: skip
        """A walk from one edit to another through contextual space: `count` edits in order, the ends made again among
        them, evenly apart. Those on the way have no seed, but can be steered by as others can.

        one, other: places in this set, or edits of this picture, instruction, model and size. beyond: how far past
        `other` the walk goes, 0 to 1, in shares of the way. pipeline, on_edit: as for `more`.

        Raises InputError as `more` does, and for edits that left no contextual tokens.
        """
        from ctxrep_edit.results.steering import between

        return between(self, one, other, count, beyond, pipeline, on_edit, progress=progress, on_step=on_step)

    def like(
        self, edit: int | Edit, n: int = 4, *, spread: float = 0.3, pipeline: Any = None, progress: bool = True,
        on_step: OnStep | None = None, on_edit: OnEdit | None = None,
    ) -> EditSet:  # fmt: skip
        """n variations of one edit: near to it, and repelled from one another. Their seeds are unused ones, whose noise
        is mixed with that of the edit.

        edit: its place in this set, or an edit of this picture, instruction, model and size. spread: 0, the edit
        itself, to 1, edits that have nothing of it. pipeline, on_edit: as for `more`.

        Raises InputError as `more` does, and for an edit that left no contextual tokens.
        """
        from ctxrep_edit.results.steering import like

        return like(self, edit, n, spread, pipeline, on_edit, progress=progress, on_step=on_step)

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
        return self.distinct_in(LAYOUT)

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
        bank: bool = False,
    ) -> list[Path]:
        """Writes the set in the form of each exporter, by name or as an object; returns the paths of its files.

        By default `edit-1.png` ... (the recipe in a text chunk), `source.png`, `sheet.png` and `edits.json`, from which
        `load` gives the set back. All or nothing: the files are written aside and moved when complete.

        An earlier set of ours in the folder is replaced: a new `edits.json` also removes the pictures that the earlier
        one names and that are not overwritten. What is not ours, and the picture that was edited, whatever it is
        called, are never replaced by pictures or `edits.json`: OutputError. What exporters of others write replaces
        files of the same names.

        keep_credits: write the source's `credits` into the EXIF of the pictures; exporters are shown none otherwise.
        bank: also write `bank.safetensors`, with which a loaded set can be continued by `more`, in another process too;
        the same as the exporter "bank".

        Raises OutputError, InputError for an unknown name.
        """
        from ctxrep_edit.results.export import export
        from ctxrep_edit.results.places import Over

        shown = self if keep_credits else replace(self, credits={})
        exporters = [*exporters, "bank"] if bank and "bank" not in exporters else exporters
        return export({"": shown}, folder, exporters, Over(self.recipe.get("source")))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> EditSet:
        """The set that `save` wrote into `folder`: its pictures, seeds, verdicts, recipe and source, and its bank where
        that was saved. Regions and dropped edits are not written. Raises InputError where there is no set, or a part of
        it is missing or broken.
        """
        from ctxrep_edit.results.bank_file import with_bank

        place = as_path(folder, "folder")
        try:
            stated = json.loads((place / "edits.json").read_text("utf-8"))
            edits = tuple(loaded(entry, place) for entry in stated["edits"])
            vendi = stated["contextual_vendi"]
            source = place / SOURCE
            found = cls(
                stated["instruction"], open_picture(source, SOURCE), edits, stated["recipe"],
                None if vendi is None else (vendi[0], vendi[1]), stated["seconds"],
                credits=read_source(source, name=SOURCE).credits,
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise InputError(
                f"No set of edits can be read from {place}: {_cause(error)}. Name a folder that EditSet.save has "
                "written, with its edits.json and all of its pictures."
            ) from error
        return with_bank(found, place / BANK) if (place / BANK).exists() else found

    def report(self, file: str | os.PathLike[str]) -> Path:
        """Writes one HTML page that needs nothing else: source, edits, region outlines, LPIPS maps, a before/after
        slider, verdicts and recipe. Returns its path. Raises OutputError, also for a file named like anything but a
        page; WeightsError without the LPIPS weights.
        """
        from ctxrep_edit.results.export import export_file

        return export_file(self, file, "report", "report.html")

    def __repr__(self) -> str:
        checked = [edit.faithful for edit in self.edits if edit.verdict]
        kept = f", {sum(checked)} of {len(checked)} kept the rest" if checked else ""
        kept += f", {len(self.dropped)} dropped" if self.dropped else ""
        known = [edit.seed for edit in self.edits if edit.seed is not None]
        run = len(known) > 1 and known == [*range(known[0], known[0] + len(known))]
        said = f"{known[0]}-{known[-1]}" if run else ", ".join(map(str, known))
        seeds = f", seed{'s' * (len(known) > 1)} {said}" if known else ""
        edits = f"{len(self)} edit{'s' * (len(self) != 1)}"
        return f"<EditSet {self.instruction!r}: {edits}{seeds}{kept}, {self.seconds:.1f} s>"

    def _repr_png_(self) -> bytes:
        return encode_png(self.sheet())

    def _repr_html_(self) -> str:
        picture = base64.b64encode(self._repr_png_()).decode()
        return f'<p>{html.escape(repr(self))}</p><img alt="contact sheet" src="data:image/png;base64,{picture}">'


def _cause(error: Exception) -> str:
    """What is wrong with a saved set, in words."""
    if isinstance(error, InputError):  # a picture
        return str(error).removesuffix(".")
    if isinstance(error, OSError):
        return f"edits.json: {error.strerror}"
    return f"edits.json states no {error}" if isinstance(error, KeyError) else f"edits.json is broken ({error})"
