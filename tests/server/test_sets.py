"""Sets that are kept: their files, regions and heat maps, what is made unlike them, and asking again by a key."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
import tiny
import works
from ctxrep_plugins.server import job_making, making
from PIL import Image
from serving import Place, encoded, serving, until

JUDGED = {"prompt": tiny.WORDS, "n": "2", "seed": "5"}
PLAIN = {**JUDGED, "preserve": "off"}


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def keeping(folder: Path, state: Path) -> Iterator[Place]:
    with serving(folder, state=state) as place:
        yield place


@pytest.fixture(scope="module")
def http(keeping: Place) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=keeping.url, timeout=60) as client:
        yield client


def done(http: httpx2.Client, png: bytes, **asked: str) -> dict[str, Any]:
    job = http.post("/v1/jobs", data=asked, files={"image": png}).json()["id"]
    until(lambda: http.get(f"/v1/jobs/{job}").json()["status"] in ("completed", "failed"))
    return dict(http.get(f"/v1/jobs/{job}").json())


@pytest.fixture(scope="module")
def judged(http: httpx2.Client, png: bytes) -> dict[str, Any]:
    return done(http, png, **JUDGED)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_a_set_has_regions_and_heat_maps(http: httpx2.Client, judged: dict[str, Any]) -> None:
    whole = http.get(f"/v1/sets/{judged['set']['id']}").json()
    assert (whole["object"], whole["job"], whole["data"]) == ("set", judged["id"], judged["data"])
    assert whole["recipe"] == judged["set"]["recipe"]
    for one in judged["data"]:
        edit, region, heat = (opened(http.get(one[kind]).content) for kind in ("url", "region", "heat"))
        assert (region.mode, region.size) == ("L", edit.size)
        assert {*np.unique(np.asarray(region))} <= {0, 255}
        assert heat.mode == "L"
        assert np.asarray(heat).any()


def test_more_of_a_set_keeps_its_regions(http: httpx2.Client, judged: dict[str, Any]) -> None:
    job = http.post(f"/v1/jobs/{judged['id']}/more", json={"n": 1}).json()["id"]
    until(lambda: http.get(f"/v1/jobs/{job}").json()["status"] == "completed")
    more = http.get(f"/v1/jobs/{job}").json()
    assert len(more["data"]) == 3
    pairs = zip(judged["data"], more["data"], strict=False)
    assert all(http.get(one["region"]).content == http.get(other["region"]).content for one, other in pairs)
    assert http.get(more["data"][2]["region"]).status_code == 200


def test_more_of_a_set_that_left_one_out(http: httpx2.Client, png: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each edit keeps its index, under which its pictures are, from its event to the set."""
    with monkeypatch.context() as patched:
        patched.setattr(job_making, "make_job", works.job_without_its_second)
        first = done(http, png, **{**JUDGED, "n": "3"})
    assert [one["index"] for one in first["data"]] == [0, 2]
    refused = http.post(f"/v1/jobs/{first['id']}/more", json={"unlike": [1]})
    assert refused.status_code == 400
    assert "no edit with the index 1. Those that are there: 0, 2." in refused.json()["error"]["message"]
    job = http.post(f"/v1/jobs/{first['id']}/more", json={"n": 2, "unlike": [0, 2]}).json()["id"]
    told = [json.loads(line[6:]) for line in http.get(f"/v1/jobs/{job}/events").iter_lines() if line[:5] == "data:"]
    assert [one["index"] for one in told[:-1]] == [3, 4]
    whole = told[-1]["data"]
    assert [one["index"] for one in whole] == [0, 2, 3, 4]
    for kinds, pairs in (
        (("url", "region", "heat"), zip(first["data"], whole[:2], strict=True)),
        (("url", "region"), zip(told[:-1], whole[2:], strict=True)),
    ):
        for one, other in pairs:
            assert one["seed"] == other["seed"]
            for kind in kinds:
                pictures = [opened(http.get(entry[kind]).content).tobytes() for entry in (one, other)]
                assert pictures[0] == pictures[1], (kind, one["index"])


def test_what_was_not_judged_has_none(http: httpx2.Client, png: bytes) -> None:
    about = done(http, png, **PLAIN)
    assert [(one["region"], one["heat"]) for one in about["data"]] == [(None, None)] * 2
    assert http.get(about["data"][0]["url"].replace("edit-", "region-")).status_code == 404
    for name in ("set-0", "set-x", "job-1", about["id"]):
        answer = http.get(f"/v1/sets/{name}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "set_not_found")


def test_regions_in_the_answer_where_asked(place: Place, png: bytes) -> None:
    asked: dict[str, Any] = {"image": ("a.png", png), "prompt": tiny.WORDS, "n": 1}
    (one,) = place.client.images.edit(**asked, extra_body={"seed": 5, "regions": True}).data or ()
    region = opened(base64.b64decode(one.region_b64))  # type: ignore[attr-defined]
    assert (region.mode, region.size) == ("L", opened(base64.b64decode(one.b64_json or "")).size)
    (one,) = place.client.images.edit(**asked, extra_body={"preserve": "off", "regions": True}).data or ()
    assert one.region_b64 is None  # type: ignore[attr-defined]


def test_edits_unlike_those_of_sets(keeping: Place, http: httpx2.Client, png: bytes, judged: dict[str, Any]) -> None:
    other = done(http, png, **{**PLAIN, "seed": "90"})
    ids = [judged["set"]["id"], other["set"]["id"]]
    assert other["status"] == "completed"

    def asked(unlike: Any) -> str:
        extra = {"seed": 40, "preserve": "off"} | ({"unlike": unlike} if unlike else {})
        made = keeping.client.images.edit(image=("a.png", png), prompt=tiny.WORDS, n=1, extra_body=extra)
        return made.data[0].b64_json or ""  # type: ignore[index]

    some = [{"set": ids[0], "index": [0]}, {"set": ids[1]}]
    made = [asked(None), asked({"set": ids[0]}), asked({"set": ids[0], "index": [1]})]
    assert len({*made}) == 3
    body = {
        "image": f"data:image/png;base64,{base64.b64encode(png).decode()}", "prompt": tiny.WORDS, "seed": 40,
        "preserve": "off", "unlike": some,
    }  # fmt: skip
    answer = http.post("/v1/images/edits", json=body).json()
    assert answer["data"][0]["b64_json"] not in made
    job = http.post("/v1/jobs", json=body)
    assert job.status_code == 202, job.text
    until(lambda: http.get(f"/v1/jobs/{job.json()['id']}").json()["status"] == "completed")
    url = http.get(f"/v1/jobs/{job.json()['id']}").json()["data"][0]["url"]
    theirs = opened(base64.b64decode(answer["data"][0]["b64_json"]))
    assert opened(http.get(url).content).tobytes() == theirs.tobytes()


def test_what_cannot_be_unlike(
    keeping: Place, http: httpx2.Client, state: Path, png: bytes, judged: dict[str, Any]
) -> None:
    plain, large = (done(http, png, **PLAIN, strength=strength) for strength in ("0", "1"))
    (state / "jobs" / large["id"] / "set" / "bank.safetensors").unlink()
    one = {"set": judged["set"]["id"]}
    long = http.post("/v1/jobs", data={**PLAIN, "n": "16", "steps": "200"}, files={"image": png}).json()["id"]
    under_way = f"set-{long[4:]}"
    for unlike, more, status, words in (
        ({"set": under_way}, {}, 409, "its job is"),
        ({"set": "set-0"}, {}, 404, "no set"),
        ({"set": plain["set"]["id"]}, {}, 400, "it is plain"),
        ({"set": large["set"]["id"]}, {}, 409, "kept nothing"),
        ({**one, "index": [7]}, {}, 400, "index 7"),
        (one, {"prompt": "another"}, 400, "another instruction"),
        (one, {"extra_body": {"strength": 0}}, 400, "nothing repels"),
    ):
        asked: dict[str, Any] = {"image": ("a.png", png), "prompt": tiny.WORDS, **more}
        asked["extra_body"] = {"preserve": "off", "unlike": unlike, **more.get("extra_body", {})}
        with pytest.raises(openai.APIStatusError, match=words) as refused:
            keeping.client.images.edit(**asked)
        assert (refused.value.status_code, refused.value.body["param"]) == (status, "unlike")  # type: ignore[index]
        if unlike["set"] == under_way:
            http.post(f"/v1/jobs/{long}/cancel")


def test_edits_like_one_and_walks_between_two(
    keeping: Place, http: httpx2.Client, png: bytes, judged: dict[str, Any]
) -> None:
    name = judged["set"]["id"]
    first, second = (opened(http.get(one["url"]).content).tobytes() for one in judged["data"])

    def asked(**extra: Any) -> Any:
        return keeping.client.images.edit(image=("a.png", png), prompt=tiny.WORDS, extra_body=extra)

    def pictures(made: Any) -> list[bytes]:
        return [opened(base64.b64decode(one.b64_json)).tobytes() for one in made.data]

    like = {"set": name, "index": 1}
    assert pictures(asked(like=like, spread=0, preserve="off")) == [second]
    near = asked(like=like, spread=0.5, preserve="off", seed=40)
    assert pictures(near)[0] not in (first, second)
    assert (near.set["recipe"]["like"], near.set["recipe"]["spread"]) == (6, 0.5)

    between = {"set": name, "index": [1, 0], "count": 3}
    walk = asked(between=between)
    assert pictures(walk)[::2] == [second, first]
    assert [one.seed for one in walk.data] == [6, None, 5]
    stream = keeping.client.images.edit(
        image=("a.png", png), prompt=tiny.WORDS, stream=True, extra_body={"between": between}
    )
    assert [(event.index, event.seed) for event in stream] == [(0, 6), (1, None), (2, 5)]
    body = {"image": f"data:image/png;base64,{base64.b64encode(png).decode()}", "prompt": tiny.WORDS}
    job = http.post("/v1/jobs", json={**body, "between": {**between, "count": 4, "beyond": 0.5}}).json()["id"]
    until(lambda: http.get(f"/v1/jobs/{job}").json()["status"] == "completed")
    about = http.get(f"/v1/jobs/{job}").json()
    assert about["set"]["recipe"]["walk"] == {"seeds": [6, 5], "shares": [0.0, 0.5, 1.0, 1.5]}
    assert (about["n"], about["finished"]) == (4, 4)
    assert opened(http.get(about["data"][2]["url"]).content).tobytes() == first
    again = asked(like={"set": about["set"]["id"], "index": 1}, spread=0, preserve="off")  # a step of the way
    assert pictures(again) == pictures(walk)[1:2] == [opened(http.get(about["data"][1]["url"]).content).tobytes()]


def test_what_cannot_be_steered_by(keeping: Place, png: bytes, judged: dict[str, Any]) -> None:
    name = judged["set"]["id"]
    like, between = {"like": {"set": name, "index": 0}}, {"between": {"set": name, "index": [0, 1]}}
    other = encoded(opened(png).transpose(Image.Transpose.FLIP_TOP_BOTTOM))
    for extra, more, param, words in (
        ({"spread": 0.3}, {}, "spread", "give like, too"),
        ({**like, "spread": 1.5}, {}, "spread", "must be a number, 0 to 1"),
        ({"like": {"set": name}}, {}, "like", "must be a whole number"),
        ({"like": {"set": name, "index": 2}}, {}, "like", "no edit with the index 2"),
        ({**like, "strength": 0}, {}, None, "strength 0 switches off"),
        (like, {"image": ("b.png", other)}, "like", "another picture"),
        (like, {"prompt": "another"}, "like", "another instruction"),
        ({"between": {"set": name, "index": [1, 1]}}, {}, "between", "twice"),
        ({"between": {"set": name, "index": [1]}}, {}, "between", "name two edits"),
        ({"between": {**between["between"], "count": 1}}, {}, "between.count", "2 to 16"),
        ({"between": {**between["between"], "far": 1}}, {}, "between[far]", "no parameter"),
        ({**between, **like}, {}, "like", "leave like out"),
        ({**between, "seed": 4}, {}, "seed", "goes by what its set was asked for"),
        (between, {"n": 3}, "n", "count says how many"),
        (between, {"mask": ("m.png", png)}, "mask", "leave mask out"),
        (between, {"image": ("b.png", other)}, "between", "of another image"),
        (between, {"prompt": "another"}, "between", "of another prompt"),
    ):  # fmt: skip
        asked: dict[str, Any] = {"image": ("a.png", png), "prompt": tiny.WORDS, **more, "extra_body": extra}
        with pytest.raises(openai.BadRequestError, match=words) as refused:
            keeping.client.images.edit(**asked)
        assert param in (refused.value.param, None), words
    for extra in (like, between):
        extra = {param: {**one, "set": "set-0"} for param, one in extra.items()}
        with pytest.raises(openai.NotFoundError, match="no set"):
            keeping.client.images.edit(image=("a.png", png), prompt=tiny.WORDS, extra_body=extra)


def test_asking_again_by_a_key_is_answered_and_not_made(keeping: Place, http: httpx2.Client, png: bytes) -> None:
    def asked(key: str, **more: Any) -> Any:
        extra = {"seed": 5, "regions": True, **more.pop("extra_body", {})}
        return keeping.client.images.edit(
            image=("a.png", png), prompt=tiny.WORDS, n=2, output_format="webp", extra_body=extra,
            extra_headers={"Idempotency-Key": key}, **more,
        )  # fmt: skip

    direct = keeping.client.images.edit(
        image=("a.png", png), prompt=tiny.WORDS, n=2, output_format="webp", extra_body={"seed": 5, "regions": True}
    )
    one, again = asked("k1"), asked("k1")
    assert [edit.to_dict() for edit in one.data] == [edit.to_dict() for edit in again.data]
    assert [edit.b64_json for edit in one.data] == [edit.b64_json for edit in direct.data or ()]
    assert [edit.region_b64 for edit in one.data] == [edit.region_b64 for edit in direct.data or ()]
    assert (one.usage, one.size, one.output_format) == (direct.usage, direct.size, direct.output_format)
    assert one.set["seconds"] == again.set["seconds"]
    assert http.get(f"/v1/sets/{one.set['id']}").json()["data"][0]["url"] == one.data[0].url
    events = list(asked("k1", stream=True))
    assert [event.b64_json for event in events] == [edit.b64_json for edit in one.data]
    assert [hasattr(event, "set") for event in events] == [False, True]
    assert [event.index for event in asked("k3", stream=True)] == [0, 1]
    for more in ({"extra_body": {"seed": 6}}, {"size": "48x32"}):
        with pytest.raises(openai.ConflictError):
            asked("k1", **more)
    with pytest.raises(openai.BadRequestError) as refused:
        asked("k4", extra_body={"scope": "everywhere"})
    assert refused.value.param == "scope"
    with pytest.raises(openai.BadRequestError, match="are not kept"):
        asked("k5", stream=True, partial_images=2)


def test_a_set_that_leaves_all_out_is_empty_by_a_key_and_without(
    keeping: Place, png: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "make_set", works.set_of_nothing)
    monkeypatch.setattr(job_making, "make_job", works.job_of_nothing)
    asked: dict[str, Any] = {
        "image": ("a.png", png), "prompt": tiny.WORDS, "n": 2,
        "extra_body": {"on_unfaithful": "drop"},
    }  # fmt: skip
    for headers in ({}, {"Idempotency-Key": "nothing"}):
        empty = keeping.client.images.edit(**asked, extra_headers=headers)
        assert (empty.data, len(empty.set["dropped"])) == ([], 2)  # type: ignore[attr-defined]
        with pytest.raises(openai.UnprocessableEntityError, match="All 2 edits failed"):
            list(keeping.client.images.edit(**asked, extra_headers=headers, stream=True))


def test_a_client_that_hung_up_finds_its_answer(keeping: Place, png: bytes) -> None:
    asked: dict[str, Any] = {
        "image": ("a.png", png), "prompt": tiny.WORDS, "n": 4, "extra_headers": {"Idempotency-Key": "slow"},
        "extra_body": {"steps": 60, "preserve": "off"},
    }  # fmt: skip
    with pytest.raises(openai.APITimeoutError):
        keeping.client.with_options(timeout=0.3).images.edit(**asked)
    assert len(keeping.client.images.edit(**asked).data or ()) == 4


def test_without_a_folder_a_key_is_refused(place: Place, png: bytes) -> None:
    with pytest.raises(openai.BadRequestError, match="--state") as refused:
        place.client.images.edit(
            image=("a.png", png), prompt=tiny.WORDS, extra_headers={"Idempotency-Key": "k"}
        )  # fmt: skip
    assert refused.value.param == "Idempotency-Key"
