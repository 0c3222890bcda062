"""When a throttle holds a job back, and for how long: by the numbers of a server that is not there."""

from __future__ import annotations

import logging
from datetime import timedelta
from types import SimpleNamespace

import pytest

from iam_watcher.database import throttle as throttle_module
from iam_watcher.database.throttle import Throttle, ThrottleCheck, Throttler
from iam_watcher.errors import JobArgumentError, WalkError


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_threads_running": -1}, "max_threads_running is -1; expected a whole number of 0 or more"),
        ({"max_threads_running": True}, "max_threads_running is True; expected a whole number of 0 or more"),
        ({"replica_conn_ids": ("a replica",)}, "replica_conn_ids"),
        ({"max_replica_lag": 5, "replica_conn_ids": ("replica",)}, "max_replica_lag .* a timedelta"),
        ({"patience": 5}, "patience"),
    ],
)
def test_a_throttle_that_cannot_be_is_refused(given, message):
    with pytest.raises(JobArgumentError, match=message):
        Throttle(**given)


def test_no_thread_and_no_lag_may_be_allowed():
    Throttle(max_threads_running=0)
    Throttle(replica_conn_ids=("replica",), max_replica_lag=timedelta(0))


@pytest.mark.parametrize(("running", "why"), [("5", None), ("6", "6 threads are running, more than 5")])
def test_as_many_threads_as_the_limit_hold_nothing_back(running, why):
    db = SimpleNamespace(run=lambda _, what: ((what, running),))
    assert ThrottleCheck(Throttle(max_threads_running=5), db, pytest.fail)() == why


class Replica:
    """A connection to a replica with these lags, one for each of its sources."""

    def __init__(self, lags):
        self.description = [("Source_Host",), ("Seconds_Behind_Source",)]
        self._rows = [("source", lag) for lag in lags]

    def cursor(self):
        return self

    def execute(self, _):
        pass

    def fetchall(self):
        return self._rows

    def close(self):
        pass


@pytest.mark.parametrize(
    ("lags", "why"),
    [
        ([0], None),
        ([10], None),
        ([11], "replica one is 11 s behind, more than 10"),
        ([0, 12], "replica one is 12 s behind, more than 10"),
        ([0, None], "one is not replicating"),
        ([], "one is not replicating"),
    ],
)
def test_the_source_that_lags_most_counts(lags, why):
    check = ThrottleCheck(
        Throttle(replica_conn_ids=("one",)), SimpleNamespace(error=OSError), lambda _: Replica(lags)
    )
    assert check() == why


class Waiting:
    """A throttler whose clock moves only while it sleeps."""

    def __init__(self, monkeypatch, reasons):
        self.now = 1000.0
        self.asked = []
        self.meanwhile = 0
        self._reasons = reasons
        monkeypatch.setattr(throttle_module.time, "monotonic", lambda: self.now)
        self.throttler = Throttler(self, "t", self._why, patience=5.0)

    def _why(self):
        self.asked.append(self.now - 1000)
        return "busy" if self._reasons and self._reasons.pop(0) else None

    def sleep(self, seconds):
        self.now += seconds

    def work(self):
        self.meanwhile += 1


def test_it_waits_while_there_is_a_reason_and_asks_once_a_second(monkeypatch, caplog):
    waiting = Waiting(monkeypatch, [True, True, True])
    with caplog.at_level(logging.INFO):
        waiting.throttler.wait(meanwhile=waiting.work)
        for _ in range(8):
            waiting.throttler.wait(meanwhile=waiting.work)
            waiting.sleep(0.25)
    assert waiting.asked == [0, 1, 2, 3, 4]
    assert waiting.meanwhile == 3
    assert caplog.text.count("event=throttled") == 1


def test_it_waits_no_longer_than_it_may(monkeypatch):
    waiting = Waiting(monkeypatch, [True] * 10)
    waiting.throttler.wait(at_most=2.0)
    assert waiting.asked == [0, 1, 2]


def test_its_patience_ends(monkeypatch):
    waiting = Waiting(monkeypatch, [True] * 10)
    with pytest.raises(WalkError, match=r"t was throttled for 6 s: busy\. .*raise the limit or the patience"):
        waiting.throttler.wait()
    assert waiting.asked == [0, 1, 2, 3, 4, 5, 6]
