"""The page, served for as long as it is wanted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ctxrep_plugins.page.api import Api
from ctxrep_plugins.page.visits import Visits
from ctxrep_plugins.shared import environment

from ctxrep_edit import InputError

UPLOADS = "GRADIO_TEMP_DIR"
HERE = ["127.0.0.1", "localhost"]


@contextmanager
def served(api: Api, folder: Path, port: int) -> Iterator[str]:
    """The address of the page, which is there as long as the context. folder: for all that visitors upload and are
    shown; port: 0 for a free one. Raises InputError where it is in use, and for what `Api.model` does."""
    model, visits = api.model(), Visits(folder / "visits")
    with environment({UPLOADS: str(folder / "uploads")}):  # where Gradio asks for it
        from ctxrep_plugins.page.layout import CSS, Page, theme
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        blocks = Page(api, model, visits).build()
        try:
            _, url, _ = blocks.launch(
                server_name="127.0.0.1", server_port=port or None, share=False, quiet=True, prevent_thread_lock=True,
                ssr_mode=False, enable_monitoring=False, footer_links=[], run_history=False, max_file_size="64mb",
                allowed_paths=[str(visits.place)], theme=theme(), css=CSS,
                app_kwargs={"middleware": [Middleware(TrustedHostMiddleware, allowed_hosts=HERE)]},
            )  # fmt: skip
        except OSError as error:
            raise InputError(f"Port {port} is in use: name another with --port, or 0 for a free one.") from error
        try:
            yield url
        finally:
            blocks.close(verbose=False)
