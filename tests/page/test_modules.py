"""What the page's modules say and keep, by the modules themselves in a browser. No Airflow, no React."""

from __future__ import annotations

import pytest

from dev.page.browser import module_page

# An element is its text here.
REACT = """
export const h = (type, props, ...children) => children.flat(9).filter(Boolean).join("");
export const useState = (value) => [value, () => {}];
export const useEffect = () => {};
"""
LIMIT = {"changed": 0, "matched": 60, "eligible": 100, "max_share": 0.5}
STOPPED = {"n": 7, "id": "x", "state": "failed", "after": 1_000, "reports": {"purge": LIMIT}}


@pytest.fixture(scope="module")
def module():
    """A function that calls a function of a module of the page."""
    with module_page(REACT) as page:
        yield lambda name, function, *given: page.evaluate(
            "async ([name, function_, given]) => (await import(name))[function_](...given)",
            [f"/{name}.js", function, list(given)],
        )


@pytest.mark.parametrize(
    ("params", "steps"),
    [
        ({"drydefault": True, "ownlimit": ["purge"]}, ["dryrun", "allow"]),
        ({"drydefault": True}, ["dryrun"]),
        ({"drydefault": True, "ownlimit": ["other"]}, ["dryrun"]),
        ({"ownlimit": ["other", "purge"]}, ["allow"]),
        ({}, ["run"]),
    ],
    ids=lambda value: "-".join(value) or "none",
)
def test_the_safety_limit_offers_only_forms_that_the_watcher_has(module, params, steps):
    watcher = {"id": "w", "runs": [STOPPED], "bars": {"s": "", "t": []}, **params}
    for reports in ({"purge": LIMIT}, {"purge/1": LIMIT}):
        one = {**watcher, "runs": [{**STOPPED, "reports": reports}]}
        found = module("story", "need", one, "prod", 2_000)
        assert (found["kind"], found["steps"], found["run"]["id"]) == ("stopped", steps, "x")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (0.5, "0.5 s"),
        (90, "1 min 30 s"),
        (5400, "1 h 30 min"),
        (129_600, "1 day 12 h"),
        (604_800, "7 days"),
    ],
)
def test_a_period_is_shown_exactly(module, seconds, shown):
    assert module("format", "period", seconds) == shown


RUNNING, DONE = {"state": "running", "after": 9}, {"state": "success", "after": 9}


@pytest.mark.parametrize(
    ("spec", "words", "runs", "expected"),
    [
        ("@after 5m", "5 minutes after the last run", [RUNNING], "after this run"),
        ("@after 5m", "5 minutes after the last run", [DONE], "no further time"),
        ("@at 2026-01-31T08:00:00Z", "once", [DONE], "no further time"),
        ("@at 2026-01-31T08:00:00Z", "once", [RUNNING], "no further time"),
        ("@once", "Once, as soon as possible", [], "no further time"),
        ("Asset", "Triggered by assets", [], "when rows or assets change"),
        ("Asset", "Triggered by assets", [RUNNING], "when rows or assets change"),
        ("Asset or @at 2026-01-31", "Triggered by assets or once", [], "when rows or assets change"),
        ("None", "Never, external triggers only", [RUNNING], "started by hand"),
        (None, None, [], "started by hand"),
    ],
)
def test_why_there_is_no_next_time(module, spec, words, runs, expected):
    key = module("story", "whyNoNext", {"id": "w", "spec": spec, "words": words, "runs": runs})
    assert module("words", "say", key) == expected
    broken = {"id": "w", "spec": spec, "words": words, "runs": runs, "broken": True}
    assert module("story", "whyNoNext", broken) == "next.broken"


def runs(*numbers):
    """Return runs as the server tells of them: one in ten seconds, the newest first."""
    return [{"n": n, "after": 10 * n} for n in sorted(numbers, reverse=True)]


def numbers(found):
    return [run["n"] for run in found["runs"]]


def test_a_new_run_pushes_no_run_out_of_the_tab(module):
    known = module("known", "withNewest", {"runs": []}, {"runs": runs(*range(21, 41)), "more": True})
    known["runs"] = module("known", "merged", known["runs"], runs(*range(1, 21)))
    known["isMore"] = False
    for newest in (41, 42):
        page = {"runs": runs(*range(newest - 19, newest + 1)), "more": True}
        known = module("known", "withNewest", known, page)
        assert numbers(known) == list(range(newest, 0, -1))
    assert known["isMore"] is False


def test_a_run_that_changed_is_as_the_server_tells_last(module):
    known = {"runs": [{"n": 1, "after": 10, "state": "running"}], "isMore": True}
    page = {"runs": [{"n": 1, "after": 10, "state": "success"}], "more": True}
    assert module("known", "withNewest", known, page)["runs"] == page["runs"]


def test_a_deleted_run_leaves_the_tab(module):
    known = {"runs": runs(1, 2, 3, 4, 5), "isMore": True}
    found = module("known", "withNewest", known, {"runs": runs(3, 5), "more": True})
    assert numbers(found) == [5, 3, 2, 1]
    assert numbers(module("known", "withNewest", known, {"runs": runs(3, 5), "more": False})) == [5, 3]


def test_after_more_new_runs_than_a_page_the_list_begins_anew(module):
    known = {"runs": runs(1, 2, 3), "isMore": False}
    found = module("known", "withNewest", known, {"runs": runs(8, 9), "more": True})
    assert (numbers(found), found["isMore"]) == ([9, 8], True)


def test_runs_of_one_second_on_two_pages(module):
    first = [{"n": 6, "after": 60}, {"n": 5, "after": 50}]
    before, then = module("known", "beforeOf", first)
    # The server compares moments: the other run at 50.3 s is before 51, and not before 50.
    page = [{"n": 5, "after": 50}, {"n": 4, "after": 50}]
    assert (before, then) == (51, 50)
    assert module("known", "hasOthers", first, page) is True
    assert module("known", "hasOthers", first, page[:1]) is False
    assert [run["n"] for run in module("known", "merged", first, page)] == [6, 5, 4]
