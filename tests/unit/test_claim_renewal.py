"""When claims are overdue: as old as the oldest of them that was neither renewed nor given back."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from iam_watcher.walk.claim import renewal as renewal_module
from iam_watcher.walk.claim.renewal import Renewal

TIMEOUT = 60.0  # seconds; two thirds of it are too late


@pytest.fixture
def renewal():
    return Renewal(SimpleNamespace(claim_timeout=TIMEOUT), connect=lambda: None)


def ago(seconds):
    return time.monotonic() - seconds


@pytest.mark.parametrize(("age", "overdue"), [(0, False), (30, False), (41, True), (100, True)])
def test_two_thirds_of_the_claim_time_out_are_too_late(renewal, age, overdue):
    renewal.add([1], ago(age))
    assert renewal.overdue is overdue


def test_the_oldest_claim_counts(renewal):
    renewal.add([1], ago(50))
    renewal.add([2], ago(0))
    assert renewal.overdue


def test_claims_that_were_given_back_count_no_more(renewal):
    renewal.add([1], ago(50))
    renewal.remove([1])
    assert not renewal.overdue
    renewal.add([2], ago(0))
    assert not renewal.overdue


def test_a_renewal_makes_all_claims_young(renewal):
    renewal.add([1, 2], ago(50))
    renewal.confirm(ago(1))
    assert not renewal.overdue
    renewal.confirm(ago(100))  # an answer that came late tells nothing new
    assert not renewal.overdue


class Connections:
    """Opens connections, and counts those that are open."""

    Error = OSError

    def __init__(self):
        self.opened = self.open = 0
        self.closed = threading.Event()

    def __call__(self):
        self.opened += 1
        self.open += 1
        return self

    def commit(self):
        pass

    def close(self):
        self.open -= 1
        self.closed.set()


@pytest.fixture
def renewed(monkeypatch):
    """What the thread does at each renewal: it takes the next step, and an error is raised."""
    done, steps = threading.Event(), []

    def renew(db, states, keys):
        if len(steps) <= 1:
            done.set()
        if steps and (step := steps.pop(0)):
            raise step

    monkeypatch.setattr(renewal_module, "renew", renew)
    monkeypatch.setattr(renewal_module, "AGAIN", 0.01)
    return SimpleNamespace(steps=steps, done=done)


@pytest.mark.parametrize(("age", "late"), [(0, 0), (50, 1)])
def test_a_renewal_is_late_if_the_claim_was_overdue(renewed, age, late):
    renewal = Renewal(SimpleNamespace(claim_timeout=1.5), Connections())
    renewal.add([1], ago(age))
    with renewal:
        assert renewed.done.wait(30)
    assert renewal.late == late


def test_each_connection_is_closed(renewed):
    connect = Connections()
    renewed.steps[:] = [OSError("lost"), OSError("lost again"), None]
    renewal = Renewal(SimpleNamespace(claim_timeout=0.03), connect)
    renewal.add([1], ago(0))
    with renewal:
        assert renewed.done.wait(30)
    assert (connect.opened, connect.open) == (3, 0)
    assert str(renewal.error) == "lost again"  # A renewal that works keeps it for the log.


def test_without_a_claim_no_connection_is_kept(renewed):
    connect = Connections()
    renewal = Renewal(SimpleNamespace(claim_timeout=0.03), connect)
    renewal.add([1], ago(0))
    with renewal:
        assert renewed.done.wait(30)
        renewal.remove([1])
        assert connect.closed.wait(30)
    assert (connect.opened, connect.open) == (1, 0)


def test_the_thread_has_ended_when_the_renewals_have(renewed):
    begun = threading.Event()

    def connect_slowly():
        begun.set()
        time.sleep(0.2)
        raise OSError("no answer")

    renewal = Renewal(SimpleNamespace(claim_timeout=0.03), connect_slowly)
    renewal.add([1], ago(0))
    with renewal:
        assert begun.wait(30)
    assert not renewal._thread.is_alive()
    assert str(renewal.error) == "no answer"
