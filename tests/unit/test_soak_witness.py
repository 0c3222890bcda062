from __future__ import annotations

from contextlib import closing

import pytest

from dev.soak.witness import Event, Witness, interleaved, judge


def begin(at: float, hold: str, since: float | None = None, key: str = "k") -> Event:
    return Event("begin", at, key, hold, owner=hold, since=since)


def step(at: float, hold: str, key: str = "k") -> Event:
    return Event("step", at, key, hold, owner=hold)


def forced(at: float, until: float, key: str = "k") -> Event:
    return Event("forced", at, key, until=until)


def lost_keys(at: float, until: float) -> Event:
    return Event("lost_keys", at, until=until)


def verdict(*events: Event, overtaken_at_most: int = 1):
    return judge(events, lease=3, overtaken_at_most=overtaken_at_most)


def test_one_after_the_other_is_no_overlap() -> None:
    found = verdict(begin(1, "a"), step(2, "a"), begin(3, "b"), step(4, "b"))
    assert (found.overlaps, found.beside, found.late) == ([], 0, 0)
    assert found.acquisitions == {"k": 2}


def test_other_keys_do_not_count() -> None:
    assert verdict(begin(1, "a"), begin(2, "b", key="other"), step(3, "a")).overlaps == []


def test_a_check_that_passed_after_the_next_one_began_is_an_overlap() -> None:
    (text,) = verdict(begin(1, "a"), begin(3, "b"), step(3.5, "a")).overlaps
    assert text == "k: a (a) went on 0.500 s after b (b) began"


def test_also_after_the_next_one_ended_and_to_a_retry_of_the_same_owner() -> None:
    again = Event("begin", 3, "k", "a-again", owner="a")
    assert verdict(begin(1, "a"), again, Event("end", 4, "k", "a-again"), step(5, "a")).overlaps


@pytest.mark.parametrize("taking", [forced(2, 2.1), lost_keys(2, 2.1), lost_keys(0.9, 1.1)])
def test_after_a_lock_was_taken_away_it_is_counted_apart(taking: Event) -> None:
    found = verdict(taking, begin(1, "a"), begin(3, "b"), step(3.5, "a"))
    assert (found.overlaps, found.beside, found.longest_beside) == ([], 1, 0.5)


@pytest.mark.parametrize(
    "taking",
    [forced(0.5, 0.6), lost_keys(3.1, 3.2), forced(2, 2.1, key="other")],
    ids=["before", "after", "other"],
)
def test_but_not_if_it_was_taken_from_another(taking: Event) -> None:
    assert verdict(taking, begin(1, "a"), begin(3, "b"), step(3.5, "a")).overlaps


def test_nor_for_longer_than_a_lease() -> None:
    assert verdict(forced(2, 2.1), begin(1, "a"), begin(3, "b"), step(6.1, "a")).overlaps


def test_a_step_that_was_checked_in_time_and_written_late() -> None:
    found = verdict(begin(1, "a"), begin(3, "b"), step(4, "b"), step(2, "a"))
    assert (found.overlaps, found.late) == ([], 1)


def test_who_waits_in_vain_has_starved() -> None:
    found = verdict(Event("wait", 1, "k", "a"), Event("gave_up", 61, "k", "a"))
    assert found.starved == ["k: a waited 60.0 s in vain"]
    assert found.longest_wait == 60


def test_who_is_overtaken_too_often_has_starved() -> None:
    early = begin(9, "a", since=1)
    late = [begin(5, "b", since=2), begin(6, "c", since=3)]
    assert verdict(*late, early).starved == ["a was overtaken 2 times"]
    found = verdict(*late, early, overtaken_at_most=2)
    assert (found.starved, found.most_overtaken) == ([], 2)


def test_retries_do_not_overtake() -> None:
    assert verdict(begin(5, "b"), begin(6, "c"), begin(9, "a", since=1), overtaken_at_most=0).starved == []


def test_rows_behind_those_of_a_later_holder() -> None:
    assert interleaved([("k", "a"), ("k", "a"), ("l", "x"), ("k", "b"), ("l", "x"), ("k", "b")]) == []
    assert interleaved([("k", "a"), ("k", "b"), ("k", "a")]) == ["k: a wrote after b had begun to"]


def test_the_file_says_who_holds_and_who_waits(tmp_path) -> None:
    with closing(Witness(tmp_path / "log")) as writer, closing(Witness(tmp_path / "log")) as reader:
        for event in (Event("wait", 1, "k", "a"), Event("wait", 2, "k", "b"), begin(3, "a", since=1)):
            writer.tell(event)
        assert reader.open_holds() == {"k": begin(3, "a", since=1)}
        assert [event.hold for event in reader.waiting()] == ["b"]
        writer.tell(Event("end", 4, "k", "a"))
        assert reader.open_holds() == {}
