"""What of a visit is shown where, as plain values and HTML."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from ctxrep_plugins.page.visits import News, Visit

FILES = "/gradio_api/file="
"""Where Gradio serves what lies in the folders that it is allowed."""


def cards(visit: Visit) -> dict[str, Any]:
    """For cards.js."""
    told = [visit.edits[index] for index in sorted(visit.edits)]
    edits = [
        {"index": one["index"], "src": f"{FILES}{visit.picture(one)}", "kept": _kept(one), "word": _word(one),
         "reason": one["reason"] or ""}
        for one in told
    ]  # fmt: skip
    pending = max(0, visit.n - len(edits)) if visit.news.busy else 0
    return {"edits": edits, "pending": pending, "shown": visit.shown, "asked": visit.asked}


def note(news: News) -> str:
    return f'<p class="{"failed" if news.failed else "said"}">{html.escape(news.note)}</p>'


def why(edit: Mapping[str, Any]) -> str:
    """What the checks say of an edit."""
    rows = "".join(
        f"<tr><td>{_text(name)}</td><td>{_text(_said(one))}</td><td>{_text(one['reason'])}</td></tr>"
        for name, one in edit["verdicts"].items()
    )
    seed = f"Edit {edit['index'] + 1}, seed {edit['seed']}"
    if not rows:
        return f"<p>{seed}</p>"
    reason = str(edit["reason"] or "")
    return (
        f"<p>{_text(reason[:1].upper() + reason[1:])}.</p><details><summary>{seed}: all checks</summary>"
        f"<table><tr><th>Check</th><th>Verdict</th><th>Why</th></tr>{rows}</table></details>"
    )


def button(visit: Visit) -> str:
    return f"Four more, unlike {'these' if visit.ticked else 'all of these'}"


def _kept(edit: Mapping[str, Any]) -> bool | None:
    return edit["faithful"] if edit["verdicts"] else None


def _word(edit: Mapping[str, Any]) -> str:
    """What the first fault is, or that it was kept."""
    faults = [one["fault"] for one in edit["verdicts"].values() if one["kept"] is False]
    return faults[0] if faults else "kept" if edit["verdicts"] else ""


def _said(verdict: Mapping[str, Any]) -> str:
    return "not asked" if verdict["kept"] is None else "kept" if verdict["kept"] else verdict["fault"]


def _text(text: str) -> str:
    return html.escape(text)
