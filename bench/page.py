"""What the Watchers page costs the API server: its first answer, and each update, from 50 to 2,000 watchers.

Each watcher has 30 runs. Asked over HTTP on the loopback interface, as a browser does: compressed.
"""

from __future__ import annotations

import gzip
import json
import statistics
import time
import urllib.request
from typing import TYPE_CHECKING, Any

from bench.harness import Result
from dev.page.server import page_server

if TYPE_CHECKING:
    from pathlib import Path

    from dev.airflow import Airflow

WATCHERS = (50, 200, 2_000)
MEASURED = 200  # the targets are for so many
ROUNDS = 9


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
        Result(f"its size, KB compressed, for {MEASURED} watchers", size, at_most=100),
        Result(f"update of the page for {MEASURED} watchers, ms", update, at_most=30, detail=updates),
        Result(f"its size, KB compressed, for {MEASURED} watchers", update_size, at_most=10),
    ]


def _figures(folder: Path, watchers: int) -> tuple[float, float, float, float]:
    folder.mkdir()
    with page_server(folder, copies=watchers - 8) as (airflow, _redis):
        token = _token(airflow)
        answer, _, _ = _ask(airflow, token, "watchers")
        newest = max(run["n"] for one in answer["watchers"] for run in one["runs"])
        path = f"changes?after={newest}&digest={answer['digest']}"
        first, update = ([_ask(airflow, token, one)[1:] for _ in range(ROUNDS)] for one in ("watchers", path))
    medians = [statistics.median(figure) for found in (first, update) for figure in zip(*found, strict=True)]
    return medians[0], medians[1], medians[2], medians[3]


def _token(airflow: Airflow) -> str:
    login = json.dumps({"username": airflow.user, "password": airflow.password}).encode()
    request = urllib.request.Request(  # noqa: S310  our own http address
        f"{airflow.url}/auth/token", data=login, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310  the same
        token: str = json.load(answer)["access_token"]
    return token


def _ask(airflow: Airflow, token: str, path: str) -> tuple[Any, float, float]:
    """Return the answer, the milliseconds until it was there, and its kilobytes."""
    headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "gzip"}
    request = urllib.request.Request(f"{airflow.url}/iam-watcher/{path}", headers=headers)  # noqa: S310
    began = time.perf_counter()
    with urllib.request.urlopen(request) as answer:  # noqa: S310  our own http address
        data = answer.read()
        took = time.perf_counter() - began
        text = gzip.decompress(data) if answer.headers.get("Content-Encoding") == "gzip" else data
    return json.loads(text), took * 1000, len(data) / 1000
