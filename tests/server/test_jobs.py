"""Jobs: asked for, followed, continued, cancelled, and taken up again."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import tiny
import works
from ctxrep_plugins.server import worker
from ctxrep_plugins.server.keys import add_key, read_keys
from ctxrep_plugins.server.turns import Task, nobody
from PIL import Image
from serving import Place, serving, until

from ctxrep_edit import EditSet, InputError

PLAIN = {"prompt": tiny.WORDS, "n": "2", "preserve": "off", "seed": "5"}


class Client:
    """What a client of jobs does."""

    def __init__(self, place: Place, key: str) -> None:
        self.http = httpx2.Client(base_url=place.url, headers={"authorization": f"Bearer {key}"}, timeout=60)

    def ask(self, png: bytes, key: str | None = None, **changes: Any) -> httpx2.Response:
        headers = {} if key is None else {"idempotency-key": key}
        return self.http.post("/v1/jobs", data={**PLAIN, **changes}, files={"image": png}, headers=headers)

    def new(self, png: bytes, **changes: Any) -> str:
        answer = self.ask(png, **changes)
        assert answer.status_code == 202, answer.text
        assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
        return str(answer.json()["id"])

    def about(self, job: str) -> dict[str, Any]:
        return dict(self.http.get(f"/v1/jobs/{job}").json())

    def ended(self, job: str, seconds: float = 60) -> dict[str, Any]:
        until(lambda: self.about(job)["status"] in ("completed", "failed", "cancelled"), seconds)
        return self.about(job)

    def events(self, job: str, last: int = 0) -> list[tuple[int, str, dict[str, Any]]]:
        answer = self.http.get(f"/v1/jobs/{job}/events", headers={"last-event-id": str(last)})
        assert answer.headers["content-type"].startswith("text/event-stream")
        found = []
        for block in answer.text.strip().split("\n\n") if answer.text else ():
            fields = dict(line.split(": ", 1) for line in block.splitlines())
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
        return found


@pytest.fixture(scope="module")
def shop(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, Path, Client, Client]]:
    """A server with jobs, the folder of their sets, and two clients with keys of their own."""
    state = tmp_path_factory.mktemp("state")
    keys = [add_key(state / "keys.txt", name) for name in ("one", "two")]
    with serving(folder, read_keys(state / "keys.txt"), state=state) as place:
        yield place, state / "jobs", Client(place, keys[0]), Client(place, keys[1])


@pytest.fixture(scope="module")
def client(shop: tuple[Place, Path, Client, Client]) -> Client:
    return shop[2]


def test_a_job_is_made_and_its_pictures_fetched(shop: tuple[Place, Path, Client, Client], png: bytes) -> None:
    _, sets, client, _ = shop
    job = client.new(png)
    about = client.ended(job)
    assert (about["status"], about["n"], about["finished"], about["error"]) == ("completed", 2, 2, None)
    assert [one["seed"] for one in about["data"]] == [5, 6]
    assert "model" in about["set"]["recipe"]
    saved = EditSet.load(sets / job / "set")
    for one, edit in zip(about["data"], saved, strict=True):
        answer = client.http.get(one["url"])
        assert answer.headers["content-type"] == "image/png"
        assert Image.open(io.BytesIO(answer.content)).tobytes() == edit.image.tobytes()
    assert client.http.get(f"/v1/sets/{about['set']['id']}/files/edits.json").json()["instruction"] == tiny.WORDS
    for name in ("request.json", "bank.safetensors", "../request.json", "..%2frequest.json", "edit-9.png", "image"):
        assert client.http.get(f"/v1/sets/{about['set']['id']}/files/{name}").status_code == 404, name


def test_whose_user_it_is_for_is_given_back(client: Client, png: bytes) -> None:
    jobs = [client.new(png, **{name: "u1"}) for name in ("user", "safety_identifier")]
    assert [client.about(job)["safety_identifier"] for job in (*jobs, client.new(png))] == ["u1", "u1", None]


def test_events_can_be_taken_up_where_they_were_left(client: Client, png: bytes) -> None:
    job = client.new(png, n="3", batch_size="1")
    events = client.events(job)
    assert [number for number, _, _ in events] == [1, 2, 3, 4]
    assert [name for _, name, _ in events] == ["job.edit"] * 3 + ["job.completed"]
    assert [data["index"] for _, _, data in events[:3]] == [0, 1, 2]
    assert events[-1][2] == client.about(job)
    assert client.events(job, 2) == events[2:]
    assert client.events(job, 4) == []
    assert client.http.get(f"/v1/jobs/{job}/events", headers={"last-event-id": "x"}).status_code == 400


def test_more_of_a_set(client: Client, png: bytes) -> None:
    first = client.new(png)
    client.ended(first)
    asked = client.http.post(f"/v1/jobs/{first}/more", json={"n": 1, "unlike": [1]})
    assert asked.status_code == 202, asked.text
    about = client.ended(asked.json()["id"])
    assert (about["status"], about["more_of"]) == ("completed", first), about
    seeds = [one["seed"] for one in about["data"]]
    assert seeds[:2] == [5, 6]
    assert len(set(seeds)) == 3
    assert (about["n"], about["finished"]) == (1, 1)
    (number, name, told), (_, last, whole) = client.events(about["id"])
    assert (number, name, told["index"], told["seed"], last) == (1, "job.edit", 2, seeds[2], "job.completed")
    assert (told["url"], whole) == (about["data"][2]["url"], about)
    again = client.http.post(f"/v1/jobs/{about['id']}/more")
    assert len(client.ended(again.json()["id"])["data"]) == 7
    long = client.http.post(f"/v1/jobs/{first}/more", content=b" " * 10**6)
    assert (long.status_code, long.json()["error"]["code"]) == (413, "body_too_large")
    for body, param in (({"n": 0}, "n"), ({"unlike": [2]}, "unlike"), ({"unlike": "1"}, "unlike"), ({"x": 1}, "x")):
        refused = client.http.post(f"/v1/jobs/{first}/more", json=body)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


def test_asking_again_by_the_same_key_is_one_job(shop: tuple[Place, Path, Client, Client], png: bytes) -> None:
    _, _, client, other = shop
    first, second = client.ask(png, key="k1").json()["id"], client.ask(png, key="k1").json()["id"]
    assert first == second
    assert client.ask(png, key="k2").json()["id"] != first
    assert other.ask(png, key="k1").json()["id"] != first
    asked = {**PLAIN, "steps": "4"}
    same = [
        client.http.post("/v1/jobs", data=dict(order), files={"image": png}, headers={"idempotency-key": "k3"})
        for order in (asked.items(), reversed(asked.items()))
    ]
    assert [answer.status_code for answer in same] == [202, 202]
    refused = client.ask(png, key="k1", n="1")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "idempotency_key_reused")


def test_a_job_is_its_owners(shop: tuple[Place, Path, Client, Client], png: bytes) -> None:
    _, _, client, other = shop
    job = client.new(png)
    client.ended(job)
    made = client.about(job)["set"]["id"]
    for path in (f"jobs/{job}", f"jobs/{job}/events", f"sets/{made}", f"sets/{made}/files/edit-1.png"):
        assert other.http.get(f"/v1/{path}").status_code == 404
    for path in ("/cancel", "/more"):
        assert other.http.post(f"/v1/jobs/{job}{path}").status_code == 404
    for name in ("job-0", "nonsense", "job-..", ".."):
        assert client.http.get(f"/v1/jobs/{name}").status_code == 404


def test_jobs_are_cancelled_under_way_and_while_they_wait(client: Client, png: bytes) -> None:
    running = client.new(png, n="8", steps="200")
    until(lambda: client.about(running)["status"] == "running")
    waiting = client.new(png)
    for job in (waiting, running):
        assert client.http.post(f"/v1/jobs/{job}/cancel").json()["status"] == "cancelled"
    after = client.new(png)
    assert client.ended(after)["status"] == "completed"
    assert [client.about(job)["status"] for job in (waiting, running)] == ["cancelled"] * 2
    assert client.events(waiting)[-1][1] == "job.cancelled"
    assert client.http.get(f"/v1/sets/set-{running[4:]}/files/edit-1.png").status_code == 404
    assert client.http.post(f"/v1/jobs/{running}/more").status_code == 409
    assert client.http.post(f"/v1/jobs/{after}/cancel").json()["status"] == "completed"


def test_what_was_finished_before_a_job_was_cancelled_stays(client: Client, png: bytes) -> None:
    job = client.new(png, n="8", steps="60", batch_size="1")
    until(lambda: client.about(job)["finished"])
    client.http.post(f"/v1/jobs/{job}/cancel")
    (_, name, told), *_, (_, end, about) = client.events(job)
    assert (name, end, about["data"]) == ("job.edit", "job.cancelled", None)
    assert client.http.get(told["url"]).headers["content-type"] == "image/png"
    assert client.http.get(told["url"].replace("edit-1", "edit-8")).status_code == 404


def test_a_job_that_is_cancelled_leaves_its_turn_to_others(
    shop: tuple[Place, Path, Client, Client], png: bytes
) -> None:
    place, _, client, _ = shop
    left = threading.Event()
    until(lambda: place.workers.waiting == 0)  # of other tests
    place.workers.submit(Task(works.until_cancelled, nobody, left.is_set))
    try:
        job = client.new(png)
        until(lambda: place.workers.waiting == 2)
        client.http.post(f"/v1/jobs/{job}/cancel")
        assert place.workers.waiting == 1
    finally:
        left.set()


def test_a_job_is_made_anew_when_its_worker_was_killed(
    shop: tuple[Place, Path, Client, Client], png: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, _, client, _ = shop
    monkeypatch.setattr(worker, "BACKOFF", (0.01, 1))
    asked = {"n": "3", "batch_size": "1", "steps": "30"}
    job = client.new(png, **asked)
    until(lambda: client.about(job)["finished"] == 1)
    os.kill(place.workers.all[0].pid or 0, signal.SIGKILL)
    about, again = client.ended(job, 300), client.ended(client.new(png, **asked))
    assert (about["status"], again["status"]) == ("completed", "completed")
    for one, other in zip(about["data"], again["data"], strict=True):
        assert client.http.get(one["url"]).content == client.http.get(other["url"]).content
    lines = client.http.get("/metrics").text.splitlines()
    assert "ctxrep_edit_jobs_waiting 0.0" in lines
    (said,) = [line for line in lines if "worker_restarts_total{" in line]
    assert said == 'ctxrep_edit_worker_restarts_total{device="cpu",worker="0"} 1.0'


def test_a_job_that_cannot_be_done_has_failed(client: Client, png: bytes) -> None:
    about = client.ended(client.new(png, scope="everywhere"))
    assert about["status"] == "failed"
    assert about["error"]["param"] == "scope"
    refused = client.ask(png, stream="true")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "stream")


def test_a_folder_has_one_server(shop: tuple[Place, Path, Client, Client], folder: Path) -> None:
    with pytest.raises(InputError, match="in use by another server"), serving(folder, state=shop[1].parent):
        pass


def test_without_a_folder_there_are_none(place: Place) -> None:
    assert place.get("/v1/jobs/job-0").status_code == 404
