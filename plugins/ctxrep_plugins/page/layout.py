"""The page: its parts, and what happens when they are used."""

from __future__ import annotations

import html
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import gradio as gr
from ctxrep_plugins.page import asking, views
from ctxrep_plugins.page.api import Api
from ctxrep_plugins.page.pictures import mask, shown
from ctxrep_plugins.page.visits import News, Visit, Visits

from ctxrep_edit import CtxrepError, InputError

HERE = Path(__file__).parent
CSS = (HERE / "page.css").read_text("utf-8")
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
EDIT, CHANGED, SOURCE = "Edit", "Changes", "Source"
UNFAITHFUL = [("Show them, marked", "flag"), ("Make them again", "retry"), ("Leave them out", "drop")]
TOP = '<header class="top"><h1>ctxrep-edit</h1><span>{}</span></header>'
EMPTY = """<div class="empty"><p>Edits appear here, each as soon as it is made and checked. Tick those that go the wrong
way, or all that you have seen enough of, and ask for more unlike them.</p></div>"""
CARDS = '<div class="cards" role="group" aria-label="Edits"></div>'
NOTE = '<div role="status" aria-live="polite">${value}</div>'


def theme() -> gr.themes.Base:
    """Quiet greys, with fonts that are there."""
    made = gr.themes.Default(
        primary_hue="zinc", neutral_hue="zinc", radius_size="lg", font=FONTS, font_mono=["ui-monospace", "monospace"]
    )
    return made.set(
        body_text_color_subdued="*neutral_500", body_text_color_subdued_dark="*neutral_400",
        block_label_text_color="*neutral_600", block_title_text_color="*neutral_700",
        block_title_text_weight="500", button_large_text_weight="500", button_large_text_size="*text_md",
        button_primary_background_fill="*neutral_900", button_primary_background_fill_hover="*neutral_700",
        button_primary_text_color="white", button_primary_background_fill_dark="*neutral_100",
        button_primary_background_fill_hover_dark="white", button_primary_text_color_dark="*neutral_900",
        input_placeholder_color="*neutral_500", body_background_fill_dark="#131316",
        background_fill_primary_dark="#131316", checkbox_border_color="*neutral_400",
        checkbox_border_color_dark="*neutral_500",
    )  # fmt: skip


class Page:
    """Builds the page. api: of the server; model: the name of its model; visits: who is there."""

    def __init__(self, api: Api, model: str, visits: Visits) -> None:
        self.api, self.model, self.visits = api, model, visits

    def build(self) -> gr.Blocks:
        with gr.Blocks(title="ctxrep-edit", analytics_enabled=False, fill_width=True) as blocks:
            gr.HTML(TOP.format(html.escape(self.model)), elem_id="top")
            with gr.Row(elem_id="desk"):
                with gr.Column(elem_id="ask"):
                    self._ask()
                with gr.Column(elem_id="answers"):
                    self._answers()
            self._wire(blocks)
        return blocks

    def _ask(self) -> None:
        self.picture = gr.Image(
            label="Picture", type="filepath", image_mode=None, sources=["upload"], height=230, buttons=[],
            elem_id="picture", placeholder="Drop a picture here\nor click to choose one",
        )  # fmt: skip
        # The file as it was dropped: whether it can be used is for the server to say.
        self.picture.preprocess = lambda payload: None if payload is None else payload.path
        self.canvas = gr.ImageEditor(
            label="Where it may change", show_label=False, type="pil", sources=(), transforms=(), layers=False,
            brush=gr.Brush(colors=["#e83e28b0"], color_mode="fixed"), height=330, visible=False, buttons=[],
            elem_id="canvas",
        )  # fmt: skip
        self.painting = gr.Checkbox(label="Paint where it may change", container=False, elem_id="painting")
        self.words = gr.Textbox(label="What to change", placeholder="change the light", elem_id="words", max_lines=4)
        self.n = gr.Slider(1, 16, 4, step=1, label="How many edits", buttons=[], elem_id="n")
        self.go = gr.Button("Make edits", variant="primary", elem_id="go")
        self.stop = gr.Button("Cancel", visible=False, elem_id="stop")
        self.note = gr.HTML(elem_id="note", html_template=NOTE)
        with gr.Accordion("More settings", open=False):
            self.strength = gr.Textbox(
                label="Strength",
                info="How far edits push one another apart; 0 not at all.",
                placeholder="the model's own",
            )
            self.seed = gr.Textbox(label="Seed", placeholder="drawn anew")
            self.unfaithful = gr.Dropdown(UNFAITHFUL, value="flag", label="Edits that fail a check")
            self.restore = gr.Checkbox(
                value=True, label="Keep the picture's own pixels outside the edit", container=False
            )

    def _answers(self) -> None:
        self.empty = gr.HTML(EMPTY, elem_id="empty")
        self.slider = gr.ImageSlider(
            type="filepath", show_label=False, label="Source and edit", visible=False, buttons=["fullscreen"],
            max_height=560, elem_id="slider",
        )  # fmt: skip
        with gr.Column(visible=False, elem_id="under") as self.under:
            self.mode = gr.Radio([EDIT, CHANGED, SOURCE], value=EDIT, show_label=False, label="Show", container=False)
            self.why = gr.HTML(elem_id="why")
        self.cards = gr.HTML(
            views.cards(Visit(Path())), elem_id="cards", html_template=CARDS,
            js_on_load=(HERE / "cards.js").read_text("utf-8"),
        )  # fmt: skip
        with gr.Row(visible=False, elem_id="after") as self.after:
            self.more = gr.Button("Four more", elem_id="more")
            self.download = gr.DownloadButton("Download all", elem_id="download")

    def _wire(self, blocks: gr.Blocks) -> None:
        shown_parts = [
            self.cards, self.note, self.go, self.stop, self.empty, self.slider, self.under, self.why, self.after,
            self.more, self.download, self.mode,
        ]  # fmt: skip
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        long: dict[str, Any] = {**quiet, "concurrency_limit": None, "trigger_mode": "once"}
        asked = [
            self.picture, self.painting, self.canvas, self.words, self.n, self.strength, self.seed, self.unfaithful,
            self.restore,
        ]  # fmt: skip
        settle = (self.settle, self.mode, shown_parts)
        gr.on([self.go.click, self.words.submit], self.edit, asked, shown_parts, **long).then(*settle, **quiet)
        self.more.click(self.go_on, None, shown_parts, **long).then(*settle, **quiet)
        self.stop.click(self.cancel, None, None, **quiet)
        paint = (self.paint, [self.painting, self.picture], [self.canvas, self.picture])
        gr.on([self.painting.change, self.picture.change], *paint, trigger_mode="always_last", **quiet)
        self.cards.tick(self.tick, None, self.more, **quiet)
        self.cards.look(self.look, self.mode, [self.cards, self.slider, self.why], **quiet)
        self.mode.input(self.look_so, self.mode, self.slider, **quiet)
        blocks.unload(self.leave)

    def edit(
        self, picture: str | None, painting: bool, canvas: Any, words: str, n: int, strength: str,
        seed: str, unfaithful: str, restore: bool, request: gr.Request,
    ) -> Iterator[dict[Any, Any]]:  # fmt: skip
        visit = self._visit(request)
        fields = {
            "prompt": words, "n": int(n), "strength": strength or None, "seed": seed or None, "restore": restore,
            "on_unfaithful": unfaithful,
        }  # fmt: skip
        try:
            data = _read(picture)
            painted = mask(canvas["layers"] or () if canvas else (), data) if painting else None
            news = asking.edit(self.api, visit, data, painted, fields)
        except CtxrepError as error:
            news = iter([News(str(error), failed=True)])
        yield from self._told(visit, news)

    def go_on(self, request: gr.Request) -> Iterator[dict[Any, Any]]:
        visit = self._visit(request)
        yield from self._told(visit, asking.more(self.api, visit))

    def _told(self, visit: Visit, news: Iterator[News]) -> Iterator[dict[Any, Any]]:
        """News as it comes. Nothing, while there is other news."""
        if not visit.turn.acquire(blocking=False):
            return
        seen: tuple[int, int | None] | None = None
        try:
            for visit.news in news:
                changes = self._parts(visit)
                now = (visit.begun, visit.shown)
                if now != seen:
                    seen = now
                    changes |= {**self._stage(visit, EDIT), self.mode: EDIT}
                yield changes
        finally:
            visit.turn.release()

    def settle(self, mode: str, request: gr.Request) -> dict[Any, Any]:
        """All as it is in the end. A browser that is sent changes quickly may have left some out."""
        visit = self._visit(request)
        changes = {**self._parts(visit), **self._stage(visit, mode)}
        if visit.made is not None and visit.edits and not visit.news.busy:
            file = visit.folder / "edits.zip"
            try:
                file.write_bytes(asking.packed(self.api, visit))
            except CtxrepError as error:
                return {**changes, self.note: views.note(News(str(error), failed=True))}
            changes |= {
                self.after: gr.update(visible=True), self.more: views.button(visit), self.download: str(file)
            }  # fmt: skip
        return changes

    def _parts(self, visit: Visit) -> dict[Any, Any]:
        busy, there = visit.news.busy, bool(visit.edits)
        return {
            self.cards: views.cards(visit), self.note: views.note(visit.news), self.go: gr.update(visible=not busy),
            self.stop: gr.update(visible=busy), self.empty: gr.update(visible=not (there or busy)),
            self.slider: gr.update(visible=there), self.under: gr.update(visible=there),
            self.after: gr.update(visible=False),
        }  # fmt: skip

    def _stage(self, visit: Visit, mode: str) -> dict[Any, Any]:
        """What is compared."""
        if visit.shown is None:
            return {}
        edit = visit.edits[visit.shown]
        picture = visit.source if mode == SOURCE else visit.picture(edit)
        if mode == CHANGED:
            picture = asking.changes(self.api, visit, edit)
        value = (str(visit.source), str(picture))
        return {self.slider: gr.update(value=value, visible=True), self.why: views.why(edit)}

    def look(self, mode: str, event: gr.EventData, request: gr.Request) -> dict[Any, Any]:
        visit = self._visit(request)
        if event.index in visit.edits:
            visit.shown = event.index
        with _toast():
            return {self.cards: views.cards(visit), **self._stage(visit, mode)}

    def look_so(self, mode: str, request: gr.Request) -> Any:
        with _toast():
            return self._stage(self._visit(request), mode).get(self.slider, gr.skip())

    def tick(self, event: gr.EventData, request: gr.Request) -> Any:
        visit = self._visit(request)
        visit.ticked = [index for index in event.ticked if index in visit.edits]
        return gr.update(value=views.button(visit))

    def paint(self, painting: bool, picture: str | None, request: gr.Request) -> tuple[Any, Any]:
        """In place of the picture, the picture to paint on."""
        if not painting or picture is None:
            return gr.update(visible=False), gr.update(visible=True)
        file = self._visit(request).folder / "canvas.png"
        with _toast():
            shown(_read(picture), 1024).save(file)
        canvas = {"background": str(file), "layers": [], "composite": None}
        return gr.update(value=canvas, visible=True), gr.update(visible=False)

    def cancel(self, request: gr.Request) -> None:
        with _toast():
            asking.cancel(self.api, self._visit(request))

    def leave(self, request: gr.Request) -> None:
        """The tab is closed: nobody waits for the job any longer."""
        gone = self.visits.leave(request.session_hash or "")
        if gone is not None:
            with suppress(CtxrepError):
                asking.cancel(self.api, gone)

    def _visit(self, request: gr.Request) -> Visit:
        return self.visits.of(request.session_hash or "")


@contextmanager
def _toast() -> Iterator[None]:
    """What goes wrong is told in passing."""
    try:
        yield
    except CtxrepError as error:
        raise gr.Error(str(error)) from error


def _read(picture: str | None) -> bytes:
    if picture is None:
        raise InputError("There is no picture yet: drop one, or click to choose it.")
    return Path(picture).read_bytes()
