"""The backends that the lock's contract is held against: one Redis, and five independent ones."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from dev.servers import Redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from iam_watcher.lock.lease import Lease

TTL = 5.0  # seconds; no test waits for it


@pytest.fixture(scope="session")
def redis_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Redis]]:
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("five")
        yield [stack.enter_context(Redis(folder / str(n), name=f"redis-{n}")) for n in range(5)]


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
                stack.enter_context(server.client(socket_timeout=0.3, socket_connect_timeout=0.3))
                for server in servers
            ]
            return Lease(clients if len(clients) > 1 else clients[0], key, owner, ttl=ttl, **options)

        yield make
