"""When claims are overdue: as old as the oldest of them that was neither renewed nor given back."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

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
