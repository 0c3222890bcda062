"""What the Watchers page costs the API server: its first answer, and each update, from 50 to 2,000 watchers.

Each watcher has 30 runs. Asked over HTTP on the loopback interface, as a browser does: compressed. The
milliseconds are those of the processor that the API server used: the database is SQLite, inside of it.
"""

from __future__ import annotations

import gzip
import json
import urllib.request
from typing import TYPE_CHECKING, Any

from psutil import Process  # type: ignore[import-untyped]

from bench.harness import Result
from dev.page.server import page_server

if TYPE_CHECKING:
    from pathlib import Path

    from dev.airflow import Airflow

WATCHERS = (50, 200, 2_000)
MEASURED = 200  # the targets are for so many
ROUNDS = 20


def measure(folder: Path) -> list[Result]:
    """Return milliseconds and kilobytes."""
    folder.mkdir(parents=True)
    figures = {number: _figures(folder / str(number), number) for number in WATCHERS}
    first, size, update, update_size = figures[MEASURED]
    growth = {name: [figures[number][n] for number in WATCHERS] for n, name in ((0, "first"), (2, "update"))}
    detail = f"{', '.join(f'{ms:.0f}' for ms in growth['first'])} ms at {WATCHERS} watchers, 200 in an answer"
    updates = f"{', '.join(f'{ms:.0f}' for ms in growth['update'])} ms at {WATCHERS} watchers"
    return [
        Result(f"first answer of the page for {MEASURED} watchers, ms", first, at_most=300, detail=detail),
        Result(f"size of the first answer for {MEASURED} watchers, KB compressed", size, at_most=100),
        Result(f"update of the page for {MEASURED} watchers, ms", update, at_most=30, detail=updates),
        Result(f"size of an update for {MEASURED} watchers, KB compressed", update_size, at_most=10),
    ]


def _figures(folder: Path, watchers: int) -> tuple[float, float, float, float]:
    folder.mkdir()
    with page_server(folder, copies=watchers - 8) as (airflow, _redis):
        token = _token(airflow)
        answer, _ = _ask(airflow, token, "watchers")
        newest = max(run["n"] for one in answer["watchers"] for run in one["runs"])
        path = f"changes?after={newest}&digest={answer['digest']}"
        return *_mean(airflow, token, "watchers"), *_mean(airflow, token, path)


def _mean(airflow: Airflow, token: str, path: str) -> tuple[float, float]:
    """Return the milliseconds that the API server works for an answer, in the mean, and its kilobytes."""
    began = _worked(airflow)  # in steps of 10 ms: hence over all rounds
    sizes = [_ask(airflow, token, path)[1] for _ in range(ROUNDS)]
    return (_worked(airflow) - began) * 1000 / ROUNDS, sizes[-1]


def _token(airflow: Airflow) -> str:
    login = json.dumps({"username": airflow.user, "password": airflow.password}).encode()
    request = urllib.request.Request(  # noqa: S310  our own http address
        f"{airflow.url}/auth/token", data=login, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310  the same
        token: str = json.load(answer)["access_token"]
    return token


def _ask(airflow: Airflow, token: str, path: str) -> tuple[Any, float]:
    """Return the answer and its kilobytes."""
    headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "gzip"}
    request = urllib.request.Request(f"{airflow.url}/iam-watcher/{path}", headers=headers)  # noqa: S310
    with urllib.request.urlopen(request) as answer:  # noqa: S310  our own http address
        data = answer.read()
        text = gzip.decompress(data) if answer.headers.get("Content-Encoding") == "gzip" else data
    return json.loads(text), len(data) / 1000


def _worked(airflow: Airflow) -> float:
    """Return the seconds of a processor that the API server has used so far."""
    server = Process(airflow.processes["api-server"].pid)
    times = [one.cpu_times() for one in (server, *server.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))
