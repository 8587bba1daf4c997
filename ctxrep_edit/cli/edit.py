"""The command that edits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ctxrep_edit.cli.outcome import print_json, print_tables, say_done, write, write_with_bank
from ctxrep_edit.errors import InputError, OutputError, Unfaithful

if TYPE_CHECKING:
    from ctxrep_edit.plugins.contracts import Exporter
    from ctxrep_edit.results.editset import EditSet
    from ctxrep_edit.results.places import Numbered

SMALL = 2**28
"""Bytes: a bank that takes no more is written without being asked for, so that a set can be continued."""


@click.command()
@click.argument("image", type=click.Path(path_type=Path))
@click.argument("instruction")
@click.option("-n", "n", type=click.IntRange(1), default=6, show_default=True, help="How many edits.")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=Path("out"),
    show_default=True,
    help="Folder for the results; one that holds a set gets a new one in it: out/2, out/3 ...",
)
@click.option("--force", is_flag=True, help="Replace an earlier set in that folder.")
@click.option("--model", help="Embedded model, local pipeline folder, or hub id.  [default: kontext-nano]")
@click.option(
    "--strength", default="auto", show_default=True, help="Of the repulsion, without units; 0 is plain sampling."
)
@click.option(
    "--strategy",
    default="contextual",
    show_default=True,
    help="What moves them apart; see ctxrep-edit plugins.",
)
@click.option("--scope", help="Which tokens repel; 'ctxrep-edit models' lists the scopes.")
@click.option(
    "--window", type=click.FloatRange(0, 1, min_open=True),
    help="For how much of the noise, from its start, they repel: more finds more answers, less keeps closer to the "
    "words, and far above 0.17 edits break.  [default: the model's]",
)  # fmt: skip
@click.option(
    "--oversample", type=click.IntRange(1),
    help="How many times as many candidates start, of which the most different go on.  [default: the model's]",
)  # fmt: skip
@click.option(
    "--hold", type=click.FloatRange(0, 1),
    help="While how much of the noise goes, in the window, an answer of the model holds.  [default: the model's]",
)  # fmt: skip
@click.option(
    "--churn", type=click.FloatRange(0, 1),
    help="How much of their noise is drawn anew behind the window.  [default: the model's]",
)  # fmt: skip
@click.option(
    "--batch-size", type=click.IntRange(1),
    help="How many candidates are made at once, repelled from those before too.  [default: as many as fit]",
)  # fmt: skip
@click.option(
    "--unlike-picture", "unlike", multiple=True, type=click.Path(path_type=Path),
    help="A picture of IMAGE that anybody made, to be repelled from; repeatable.",
)  # fmt: skip
@click.option(
    "--vary", help="Values such as red,blue,green: each edit is asked for one, at the {} in INSTRUCTION or behind it.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(0), help="Of the first edit; the others follow.  [default: random]")
@click.option("--steps", type=click.IntRange(1), help="Of the sampler.  [default: the model's]")
@click.option(
    "--mask", type=click.Path(path_type=Path),
    help="Where the edit is allowed: white, or transparent. Models that do not inpaint are not shown it, and may edit "
    "elsewhere: the checks go by it, and --restore.",
)  # fmt: skip
@click.option(
    "--reference", "references", type=click.Path(path_type=Path), multiple=True,
    help="A further picture that INSTRUCTION speaks of, where the model takes several; may be repeated.",
)  # fmt: skip
@click.option("--device", help="Torch device, such as cuda or cpu.  [default: what torch finds]")
@click.option(
    "--dtype",
    help="float32, bfloat16 or float16.  [default: float32 on a CPU and for an embedded model, else bfloat16]",
)
@click.option("--check", "checks", multiple=True, help="A check to ask; may be repeated.  [default: see docs]")
@click.option("--no-check", is_flag=True, help="Ask no check and measure nothing: needs no LPIPS weights.")
@click.option("--realign", is_flag=True, help="Move edits back that came back shifted or zoomed.")
@click.option("--restore", is_flag=True, help="Put the source's own pixels back outside the edit, at its size.")
@click.option(
    "--on-unfaithful", type=click.Choice(["flag", "drop", "raise", "retry"]), default="flag", show_default=True,
    help="What becomes of edits that fail a check; raise drops them and exits with 1.",
)  # fmt: skip
@click.option(
    "--distinct", type=click.Choice(["count", "retry"]), default="count", show_default=True,
    help="Whether edits that repeat another are only counted, or made again.",
)  # fmt: skip
@click.option("--retries", type=click.IntRange(1), default=2, show_default=True, help="In how many rounds at most.")
@click.option("--export", "exporters", multiple=True, help="Write this form too, beside png, sheet, json; repeatable.")
@click.option("--keep-credits", is_flag=True, help="Write artist and copyright of IMAGE's EXIF into the edits.")
@click.option("--compare", is_flag=True, help="Also make the plain edits of that seed, side by side.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--progress/--no-progress", default=True, help="Progress bar on stderr.")
def edit(
    image: Path, instruction: str, out: Path, force: bool, compare: bool, as_json: bool, strength: str,
    seed: int | None, mask: Path | None, references: tuple[Path, ...], checks: tuple[str, ...], no_check: bool,
    exporters: tuple[str, ...], keep_credits: bool, vary: str | None, **options: Any,
) -> None:  # fmt: skip
    """Edit IMAGE as INSTRUCTION says, several times, each time differently.

    Writes edit-1.png ..., source.png, sheet.png and edits.json into the output folder, and bank.safetensors, where it
    takes at most 256 MiB, for 'ctxrep-edit more'; with --compare into its sub-folders plain/ and diverse/, and one
    sheet.png for both. IMAGE and the mask are never written over.
    """
    from ctxrep_edit.imaging import read_mask, read_references, read_source

    # 1. What can be said before anything heavy is imported.
    amount = _strength(strength)
    if checks and no_check:
        raise InputError("--check and --no-check contradict each other: give one of them.")
    if compare and amount == 0:
        raise InputError(
            "--compare sets plain edits beside diverse ones, but with --strength 0 all are plain: leave one."
        )
    _check_names(checks, options)
    forms = named_forms(exporters)
    source = read_source(image)
    options["mask"] = None if mask is None else read_mask(mask, source.image.size)
    options["references"] = read_references(references)
    check_writable(out)
    # 2. The edits.
    from ctxrep_edit.results.places import Numbered
    from ctxrep_edit.sampling.particles import seeds
    from ctxrep_edit.settings import Repulsion

    options |= {"preserve": "off" if no_check else checks or "auto", "seed": seeds(seed, 1)[0]}
    options["batch_size"] = options["batch_size"] or "auto"
    options["vary"] = None if vary is None else vary.split(",")
    said = {name: options.pop(name) for name in ("hold", "churn")}
    options["repulsion"] = Repulsion(**said) if said != dict.fromkeys(said) else None
    place = Numbered(force, [path.expanduser() for path in (image, mask, *references) if path is not None])
    wanted = {"diverse" if amount else "plain": {**options, "strength": amount}}
    if compare:  # plain edits have no use for what is said of the repulsion
        unsaid = dict.fromkeys(("window", "oversample", "repulsion"))
        wanted = {"plain": {**options, "strength": 0.0, "unlike": (), **unsaid}, **wanted}
    sets: dict[str, EditSet] = {}
    try:
        for name, asked in wanted.items():
            sets[name] = _made(source, instruction, **asked)
    except BaseException as error:
        _save_done(sets, name, error, out, forms, place)
        raise
    # 3. The files, and what is said of them.
    if not keep_credits:
        sets = {name: replace(edits, credits={}) for name, edits in sets.items()}
    write_with_bank(sets, out, forms, _bank(sets), place)
    folder = place.folder
    if place.note:
        mend = "." if force else "; --force replaces an earlier set."
        click.echo(f"{place.note}: written into {click.format_filename(folder)}{mend}", err=True)
    (print_json if as_json else print_tables)(sets, folder, no_check)
    settled(sets, folder, options["on_unfaithful"])


def _strength(text: str) -> Any:
    if text == "auto":
        return text
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise InputError(f"--strength is {text!r}, but must be a number >= 0, or auto.")
    return number


def named_forms(exporters: Sequence[str]) -> list[Exporter]:
    """The exporters of these names, after the usual ones. Raises InputError for a name that nothing installed has."""
    from ctxrep_edit.plugins import catalog
    from ctxrep_edit.results.editset import FORMS

    return [catalog.EXPORTERS.get(name) for name in dict.fromkeys([*FORMS, *exporters])]


def _bank(sets: dict[str, EditSet]) -> list[Exporter]:
    """With which one set alone can be continued, where its tokens are there and few."""
    from ctxrep_edit.plugins import catalog

    edits = next(iter(sets.values()))
    traces = [edit.trace for edit in edits]
    size = sum(trace.nbytes for trace in traces if trace)
    return [catalog.EXPORTERS.get("bank")] if len(sets) == 1 and all(traces) and 0 < size <= SMALL else []


def _check_names(checks: Sequence[str], options: dict[str, Any]) -> None:
    """Raises InputError for a name that nothing installed has."""
    from ctxrep_edit.plugins import catalog
    from ctxrep_edit.sampling.pipelines import class_named

    for check in checks:
        catalog.CHECKS.get(check)
    strategy = catalog.STRATEGIES.get(options["strategy"])
    if options["scope"] is not None and strategy.repels:
        known, named = catalog.pipelines(), class_named(options["model"])
        if named in known:
            known[named].scope(options["scope"])
        elif named is None and not any(options["scope"] in adapter.scopes for adapter in known.values()):
            raise InputError(f"No adapter has a scope {options['scope']!r}: 'ctxrep-edit models' lists them.")


def _made(source: Any, instruction: str, **options: Any) -> EditSet:
    """The set; under --on-unfaithful raise without the edits that fail, which are its `dropped`."""
    from ctxrep_edit.api import diverse_edit
    from ctxrep_edit.results.assembly import settle

    try:
        return diverse_edit(source, instruction, **options)
    except Unfaithful as error:
        return settle(error.edits, "drop")


def _save_done(
    sets: dict[str, EditSet], name: str, error: BaseException, out: Path, forms: Sequence[Exporter], place: Numbered
) -> None:
    """Writes the edits that were done when a run came to its end too early, if there are any: in the sets before, and
    in the one of that name."""
    edits: EditSet | None = getattr(error, "edits", None)
    done = {**sets, name: edits} if edits else sets
    if done:
        write({name: replace(some, credits={}) for name, some in done.items()}, out, forms, place)
        say_done(done.values(), place.folder)


def check_writable(folder: Path) -> None:
    """Finds out before the run whether its results can be written; makes nothing yet."""
    import tempfile

    from ctxrep_edit.results.aside import as_folder

    folder = as_folder(folder, "-o")
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise OutputError(
            f"The folder {folder} cannot be written to: {error.strerror}. Name another with -o."
        ) from error


def settled(sets: dict[str, EditSet], folder: Path, on_unfaithful: str) -> None:
    """Ends with an error where edits fail and that is one."""
    from ctxrep_edit.cli.tables import numbered

    bad = [f"{name}, {numbered(edits.dropped)}" for name, edits in sets.items() if edits.dropped]
    if bad and on_unfaithful == "raise":
        left = sum(len(edits) for edits in sets.values())
        where = f"The other {left} are in {click.format_filename(folder)}. " if left else ""
        raise click.ClickException(
            f"Not all edits kept what they should: {'; '.join(bad)}. {where}--on-unfaithful retry makes such edits "
            "again, --mask says where the edit is allowed."
        )
