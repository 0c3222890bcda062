"""The backends that the lock's contract is held against: one Redis, and five independent ones.

All leases log in as the account of docs/lock.md: so the contract needs no right that is not named there.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dev.servers import Redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from iam_watcher.lock.lease import Lease

TTL = 5.0  # seconds; no test waits for it
ACCOUNT = {"username": "watcher", "password": "password"}


def documented_rule() -> list[str]:
    """The words of the `ACL SETUSER` command of the page on the lock."""
    page = (Path(__file__).parents[2] / "docs" / "lock.md").read_text()
    (rule,) = [line for line in page.splitlines() if line.startswith("ACL SETUSER")]
    return rule.split()


@pytest.fixture(scope="session")
def redis_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Redis]]:
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("five")
        servers = [stack.enter_context(Redis(folder / str(n), name=f"redis-{n}")) for n in range(5)]
        for server in servers:
            with server.client() as client:
                client.execute_command(*documented_rule())
        yield servers


@pytest.fixture(params=[1, 5], ids=["one-redis", "five-redis"])
def servers(request: pytest.FixtureRequest, redis_servers: list[Redis]) -> list[Redis]:
    """The servers of one backend, empty."""
    chosen = redis_servers[: request.param]
    for server in chosen:
        with server.client() as client:
            client.flushall()
    return chosen


@pytest.fixture
def make_lease(servers: list[Redis]) -> Iterator[Callable[..., Lease]]:
    """A function that gives a lease on clients of its own, as another process would have."""
    from iam_watcher.lock.lease import Lease

    with ExitStack() as stack:

        def make(
            owner: str = "a/dag/run", key: str = "clean", *, ttl: float = TTL, **options: object
        ) -> Lease:
            clients = [
                stack.enter_context(server.client(**ACCOUNT, socket_timeout=0.3, socket_connect_timeout=0.3))
                for server in servers
            ]
            return Lease(clients if len(clients) > 1 else clients[0], key, owner, ttl=ttl, **options)

        yield make
