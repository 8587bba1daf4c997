"""The server's API, as far as the page asks for it. All of its paths are here."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx

from ctxrep_edit import InputError, ModelError

JOBS = "/v1/jobs"
MODELS = "/v1/models"
READY = "/readyz"
SCHEMA = "/openapi.json"

ENDED = ("completed", "failed", "cancelled")
PATIENCE = 30.0
"""Seconds for which a server that broke off its events is looked for again."""


class Refusal(InputError):
    """What the server says is wrong, in its words."""


class Api:
    """A client of one server. Several threads may use it."""

    def __init__(self, url: str, key: str | None = None, *, proxies: bool = True) -> None:
        """url: with or without /v1 at its end. proxies: whether those of the environment are asked."""
        self.url = url.rstrip("/").removesuffix("/v1")
        try:
            known = httpx.URL(self.url)
        except httpx.InvalidURL:
            known = httpx.URL()
        if known.scheme not in ("http", "https") or not known.host:
            raise InputError(f"{url} is no address of a server: give one such as http://127.0.0.1:8000.")
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=proxies)

    def close(self) -> None:
        self._http.close()

    def ready(self) -> bool:
        """Whether its model is loaded."""
        try:
            return self._http.get(READY, timeout=5).is_success
        except httpx.TransportError:
            return False

    def model(self) -> str:
        """The name of its model. Raises InputError where it has none, or takes no jobs."""
        listed = self._get(MODELS).json()
        if JOBS not in self._get(SCHEMA).json()["paths"]:
            raise InputError(f"The server at {self.url} takes no jobs: start it with --state FOLDER.")
        return str(listed["data"][0]["id"])

    def ask(self, picture: bytes, mask: bytes | None, fields: Mapping[str, Any]) -> dict[str, Any]:
        """A new job. fields: by name; None: not given. Raises `Refusal`."""
        files = {"image": picture} | ({} if mask is None else {"mask": mask})
        data = {name: str(value).lower() if isinstance(value, bool) else value for name, value in fields.items()}
        return self._post(JOBS, data={name: value for name, value in data.items() if value is not None}, files=files)

    def more(self, job: str, n: int, unlike: Sequence[int]) -> dict[str, Any]:
        """A job of n more edits; unlike: the `index` of those to be unlike, none for all. Raises `Refusal`."""
        return self._post(f"{JOBS}/{job}/more", json={"n": n, "unlike": list(unlike) or None})

    def cancel(self, job: str) -> dict[str, Any]:
        return self._post(f"{JOBS}/{job}/cancel")

    def file(self, url: str, name: str | None = None) -> bytes:
        """What lies at the `url` of an edit, or under `name` beside it."""
        return self._get(url if name is None else f"{url.rpartition('/')[0]}/{name}").content

    def news(self, job: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Names and data of its events, to the end of the job, whatever becomes of the connection meanwhile."""
        last, given_up = "0", math.inf
        while True:
            try:
                for told in self._events(job, last):
                    given_up = math.inf
                    if told is not None:
                        last, name, data = told
                        yield name, data
                        if name.removeprefix("job.") in ENDED:
                            return
            except httpx.TransportError as error:
                if time.monotonic() > given_up:
                    raise self._lost() from error
            if time.monotonic() > given_up:
                raise Refusal("The server told no end of the job. Its log may say why.")
            given_up = min(given_up, time.monotonic() + PATIENCE)
            time.sleep(0.5)

    def _events(self, job: str, last: str) -> Iterator[tuple[str, str, dict[str, Any]] | None]:
        """Numbers, names and data; None: a sign that the server is there."""
        with self._http.stream("GET", f"{JOBS}/{job}/events", headers={"Last-Event-ID": last}) as answer:
            if not answer.is_success:
                answer.read()
                raise _refusal(answer)
            fields: dict[str, str] = {}
            for line in answer.iter_lines():
                name, colon, value = line.partition(": ")
                if line.startswith(":"):
                    yield None
                elif name and colon:
                    fields[name] = value
                elif not line and "data" in fields:
                    yield fields.get("id", last), fields.get("event", ""), json.loads(fields["data"])
                    fields = {}

    def _get(self, url: str) -> httpx.Response:
        return self._answered("GET", url)

    def _post(self, url: str, **options: Any) -> dict[str, Any]:
        said: dict[str, Any] = self._answered("POST", url, **options).json()
        return said

    def _answered(self, method: str, url: str, **options: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, url, **options)
        except httpx.TransportError as error:
            raise self._lost() from error
        if not answer.is_success:
            raise _refusal(answer)
        return answer

    def _lost(self) -> ModelError:
        return ModelError(f"The server at {self.url} does not answer: see whether it runs.")


def _refusal(answer: httpx.Response) -> Refusal:
    try:
        return Refusal(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):  # a proxy, or no server of ours
        return Refusal(f"The server answered with {answer.status_code} {answer.reason_phrase}.")
