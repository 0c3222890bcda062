"""Any order of acquire, renew, release and expiry, of several owners, against a model of a lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from iam_watcher.lock import scripts
from iam_watcher.lock.lease import Lease

if TYPE_CHECKING:
    from dev.servers import Redis

OWNERS = ("a", "b", "c")
owners = st.sampled_from(OWNERS)


class Machine(RuleBasedStateMachine):
    clients: ClassVar[list] = []

    @initialize()
    def start(self) -> None:
        for client in self.clients:
            client.flushall()
        self.leases = {owner: Lease(self.clients, "clean", owner, ttl=60) for owner in OWNERS}
        self.held_by: str | None = None
        self.at_work: set[str] = set()
        self.revoked: set[str] = set()

    @rule(owner=owners)
    def acquire(self, owner: str) -> None:
        free = self.held_by in (None, owner) and owner not in self.revoked
        assert self.leases[owner].acquire() == free
        if free:
            self.held_by = owner

    @rule(owner=owners)
    def renew(self, owner: str) -> None:
        assert self.leases[owner].renew() == (self.held_by == owner)

    @rule(owner=owners)
    def release(self, owner: str) -> None:
        freed = self.held_by == owner and not self.at_work
        assert self.leases[owner].release() == freed
        if freed:
            self.held_by = None

    @rule()
    def expire(self) -> None:
        for client in self.clients:
            client.delete("clean")
        self.held_by = None

    @rule(member=st.sampled_from(["x", "y"]), nonce=st.sampled_from(["1", "2"]))
    def enter(self, member: str, nonce: str) -> None:
        occupied = any(mark.startswith(member) and mark != member + nonce for mark in self.at_work)
        assert self.leases["a"].enter(member, nonce, heartbeat_ttl=60) != occupied
        if not occupied:
            self.at_work.add(member + nonce)

    @rule(member=st.sampled_from(["x", "y"]), nonce=st.sampled_from(["1", "2"]))
    def leave(self, member: str, nonce: str) -> None:
        self.leases["a"].leave(member, nonce)
        self.at_work.discard(member + nonce)

    @rule(owner=owners)
    def come_late(self, owner: str) -> None:
        """What undoes an attempt, where that one won nothing."""
        self.leases[owner]._servers.ask(scripts.GIVE_BACK, owner, "an attempt of before")

    @rule(owner=owners)
    def revoke(self, owner: str) -> None:
        revoked = self.held_by == owner
        assert self.leases["c"].revoke(owner, "{}") == revoked
        if revoked:
            self.held_by = None
            self.revoked.add(owner)

    @invariant()
    def every_key_expires(self) -> None:
        client = self.clients[0]
        assert [name for name in client.scan_iter() if client.pttl(name) < 0] == []

    @invariant()
    def everyone_sees_the_same_holder(self) -> None:
        holder = self.leases["b"].holder()
        assert (holder and holder.owner) == self.held_by


@pytest.mark.parametrize("size", [1, 5])
def test_no_order_of_events_breaks_the_lock(size: int, redis_servers: list[Redis]) -> None:
    Machine.clients = [server.client() for server in redis_servers[:size]]
    try:
        run_state_machine_as_test(Machine, settings=settings(max_examples=60, deadline=None))
    finally:
        for client in Machine.clients:
            client.close()
