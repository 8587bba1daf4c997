"""What the server stands: python tests/benchmarks/server.py many|overhead|kill|idle

Each starts a server of its own on a free port, with kontext-nano unless --model names another.

many: --requests by --clients at once; each seed is asked for twice, by whoever comes to it, so that a set that is lost,
doubled or another client's shows. overhead: a call of the library, and of the server, in turn. kill: kill -9 of server
or worker at random moments, while jobs wait and requests come. idle: connections that say nothing or half a request,
and clients that never read their streams, beside one that asks.
"""

from __future__ import annotations

import argparse
import base64
import collections
import hashlib
import os
import random
import socket
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import psutil
from PIL import Image
from under_load import WORDS, Load, Server, source


def pictures(answer: Any) -> str:
    """What a set is, in short."""
    parts = [f"{one['seed']}:{hashlib.sha256(base64.b64decode(one['b64_json'])).hexdigest()}" for one in answer["data"]]
    return " ".join(parts)


def many(arguments: argparse.Namespace, folder: Path) -> None:
    server, picture = Server(folder, "--model", arguments.model, "--queue", str(arguments.clients)).ready(), source()
    lock, sets, ids, memory = threading.Lock(), collections.defaultdict(list), set[str](), []
    seeds = [100 * i for i in range(arguments.requests // 2) for _ in range(2)]
    random.Random(0).shuffle(seeds)
    begun = time.monotonic()

    def ask(seed: int) -> None:
        fields = {"prompt": WORDS, "n": "2", "seed": str(seed), "steps": str(arguments.steps), "preserve": "off"}
        answer = httpx2.post(f"{server.url}/v1/images/edits", data=fields, files={"image": picture}, timeout=600)
        answer.raise_for_status()
        assert all(seed <= one["seed"] < seed + 100 for one in answer.json()["data"]), seed
        with lock:
            sets[seed].append(pictures(answer.json()))
            ids.add(answer.headers["x-request-id"])
            memory.append(server.memory())

    with ThreadPoolExecutor(arguments.clients) as pool:
        list(pool.map(ask, seeds))
    took = time.monotonic() - begun
    server.end()
    assert len(ids) == len(seeds)
    assert all(len(made) == 2 and made[0] == made[1] for made in sets.values())
    assert len({made[0] for made in sets.values()}) == len(sets)
    print(f"{len(seeds)} requests by {arguments.clients} clients in {took:.0f} s: each answered once, each its own set")
    first = min(50, len(memory) - 1)
    for name, column in zip(("server", "worker"), zip(*memory, strict=True), strict=True):
        then, most = column[first], max(column[first:])
        way = ", ".join(f"{column[i] / 1e6:.0f}" for i in range(0, len(column), max(1, len(column) // 8)))
        print(f"{name}: {then / 1e6:.0f} MB after {first}, at most {most / then:.3f} times as much afterwards")
        print(f"{name}, on the way: {way}, {column[-1] / 1e6:.0f} MB")


def overhead(arguments: argparse.Namespace, folder: Path) -> None:
    from ctxrep_edit import diverse_edit, load_pipeline

    server, picture = Server(folder, "--model", arguments.model).ready(), source()
    pipeline = load_pipeline(arguments.model, progress=False)
    client = httpx2.Client(timeout=600)

    def called(seed: int) -> None:
        checks = {} if arguments.checks else {"preserve": "off"}
        made = diverse_edit(
            picture, WORDS, arguments.n, seed=seed, pipeline=pipeline, bank="off", progress=False, **checks
        )  # fmt: skip
        if arguments.checks:
            _ = made.vendi, made.distinct  # the server tells them too

    def asked(seed: int) -> None:
        fields = {"prompt": WORDS, "n": str(arguments.n), "seed": str(seed)}
        fields |= {} if arguments.checks else {"preserve": "off"}
        client.post(f"{server.url}/v1/images/edits", data=fields, files={"image": picture}).raise_for_status()

    def seconds(what: Any, seed: int) -> float:
        begun = time.monotonic()
        what(seed)
        return time.monotonic() - begun

    for what in (called, asked):
        what(0)
    ratios, bare, dice = [], [], random.Random(0)
    for i in range(arguments.pairs):
        order = (called, asked) if i % 2 else (asked, called)
        took = {what: seconds(what, i) for what in order}
        ratios.append(took[asked] / took[called])
        bare.append(took[called])
        if i % 5 == 4:
            medians = sorted(statistics.median(dice.choices(ratios, k=len(ratios))) for _ in range(2000))
            print(
                f"server / call: {statistics.median(ratios):.3f} [{medians[50]:.3f}, {medians[1949]:.3f}], median of "
                f"{len(ratios)} pairs, n = {arguments.n}, a call takes {statistics.median(bare):.2f} s", flush=True,
            )  # fmt: skip
    server.end()


def kill(arguments: argparse.Namespace, folder: Path) -> None:
    dice, killed = random.Random(arguments.seed), collections.Counter[str]()
    options = ["--model", arguments.model, "--state", str(folder / "state"), "--workers", str(arguments.workers)]
    server = Server(folder, *options)
    load = Load(server.url, arguments.steps)
    try:
        for _ in range(arguments.kills):
            server.ready()
            time.sleep(dice.uniform(0, arguments.apart))
            workers = server.workers()
            if workers and dice.random() < 0.5:
                dice.choice(workers).kill()
                killed["worker"] += 1
            else:
                server.process.kill()
                server.process.wait()
                killed["server"] += 1
                server = Server(folder, *options, port=server.port)
            print(f"killed {dict(killed)}; {len(load.jobs)} jobs accepted, {len(load.ends)} ended", flush=True)
            assert all(thread.is_alive() for thread in load.threads), "Something was wrong."
        load.finish()
        assert load.files > 0
    finally:
        load.stopped.set()
        server.end()
    made, failed = collections.defaultdict(set), 0
    for order, job in load.jobs.items():
        if "worker_ended" in load.ends[job]:
            failed += 1
            continue
        place = folder / "state" / "jobs" / job / "set"
        files = [Image.open(place / f"edit-{number}.png").tobytes() for number in (1, 2)]
        made[int(order.split()[1]) // 2].add(tuple(files))
    assert all(len(sets) == 1 for sets in made.values()), "A job that was begun anew is another set."
    accepted = len(load.jobs)
    print(
        f"{sum(killed.values())} kills ({dict(killed)}): {accepted} jobs accepted, each ended once, {failed} failed as "
        f"three workers were killed under them, of the others the same seed is the same set; {load.files} files "
        f"fetched meanwhile, all whole; {load.answered} requests answered"
    )


def idle(arguments: argparse.Namespace, folder: Path) -> None:
    server, picture = Server(folder, "--model", arguments.model, "--queue", "64").ready(), source()
    fields = {"prompt": WORDS, "n": "2", "steps": str(arguments.steps), "preserve": "off"}

    def seconds() -> float:
        begun = time.monotonic()
        answer = httpx2.post(f"{server.url}/v1/images/edits", data=fields, files={"image": picture}, timeout=600)
        answer.raise_for_status()
        return time.monotonic() - begun

    seconds()
    alone = [seconds() for _ in range(arguments.times)]
    address, held = ("127.0.0.1", server.port), []
    for i in range(arguments.connections):
        held.append(socket.create_connection(address))
        if i % 2:
            held[-1].sendall(b"POST /v1/images/edits HTTP/1.1\r\nhost: localhost\r\n")
    large = {**fields, "stream": "true", "size": "2048x2048", "batch_size": "1", "n": "4"}
    body = httpx2.Request("POST", f"{server.url}/v1/images/edits", data=large, files={"image": picture})
    head = "".join(f"{name}: {value}\r\n" for name, value in body.headers.items())
    for _ in range(arguments.unread):
        held.append(socket.create_connection(address))
        held[-1].sendall(f"POST /v1/images/edits HTTP/1.1\r\n{head}\r\n".encode() + body.read())
    time.sleep(1)
    seconds()  # after all of theirs are made
    server.at_rest()  # and packed, as far as anybody takes them
    beside = [seconds() for _ in range(arguments.times)]
    print(
        f"a set takes {statistics.median(alone):.2f} s alone, {statistics.median(beside):.2f} s beside "
        f"{arguments.connections} idle connections and {arguments.unread} unread streams, of {arguments.times} each; "
        f"the server then holds {server.memory()[0] / 1e6:.0f} MB"
    )
    for one in held:
        one.close()
    server.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="kontext-nano")
    parser.add_argument("--steps", type=int, default=4, help="of a set; overhead takes the model's own")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("many")
    one.add_argument("--requests", type=int, default=200)
    one.add_argument("--clients", type=int, default=20)
    one = commands.add_parser("overhead")
    one.add_argument("--pairs", type=int, default=20)
    one.add_argument("-n", type=int, default=4)
    one.add_argument("--checks", action="store_true", help="with the default checks, Vendi score and distinct edits")
    one = commands.add_parser("kill")
    one.add_argument("--kills", type=int, default=20)
    one.add_argument("--workers", type=int, default=1)
    one.add_argument("--apart", type=float, default=4.0, help="seconds at most from the server's being ready to a kill")
    one.add_argument("--seed", type=int, default=0)
    one = commands.add_parser("idle")
    one.add_argument("--connections", type=int, default=1000)
    one.add_argument("--unread", type=int, default=10)
    one.add_argument("--times", type=int, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            globals()[arguments.command](arguments, Path(folder))
        finally:
            for process in psutil.Process().children():
                process.terminate()


if __name__ == "__main__":
    os.environ["PYTHONWARNINGS"] = "ignore"  # of libraries, which would stand in the log
    main()
