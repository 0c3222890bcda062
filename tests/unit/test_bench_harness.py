from __future__ import annotations

import json

import pytest

from bench.harness import Result, interleaved, ratio, save, table


@pytest.mark.parametrize(
    ("target", "text", "ok"),
    [
        ({"at_most": 1.3}, "<= 1.3", True),
        ({"at_most": 1.1}, "<= 1.1", False),
        ({"at_least": 1.2}, ">= 1.2", True),
        ({"at_least": 1.25}, ">= 1.25", False),
    ],
)
def test_a_target(target, text, ok) -> None:
    result = Result("a", 1.2, **target)
    assert (result.target, result.ok) == (text, ok)


@pytest.mark.parametrize("target", [{}, {"at_most": 1, "at_least": 1}])
def test_a_result_has_one_target(target) -> None:
    with pytest.raises(ValueError, match="'a': expected at_most or at_least"):
        Result("a", 1, **target)


def test_contestants_run_in_turn_and_each_begins_once() -> None:
    order: list[str] = []
    found = interleaved({name: lambda name=name: order.append(name) or len(order) for name in "abc"}, 3)
    assert "".join(order) == "abcbcacab"
    assert found == {"a": [1, 6, 8], "b": [2, 4, 9], "c": [3, 5, 7]}


def test_the_ratio_is_the_median_of_the_rounds() -> None:
    assert ratio([1, 20, 3], [1, 2, 2]) == 1.5


def test_what_is_written(tmp_path) -> None:
    results = [Result("a", 1.23456, at_most=1.3, detail="2 against 1 µs"), Result("b", 0.5, at_least=1)]
    save(results, tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text()) == [
        {"name": "a", "ratio": 1.2346, "target": "<= 1.3", "ok": True},
        {"name": "b", "ratio": 0.5, "target": ">= 1", "ok": False},
    ]
    assert table(results).splitlines() == [
        "        result  target  figures",
        "ok      1.23    <= 1.3  a: 2 against 1 µs",
        "missed  0.5     >= 1    b",
    ]
