"""What a watcher needs a person for, by the page's own modules in a browser."""

from __future__ import annotations

import pytest

from dev.page.browser import module_page

HOUR = 3_600
NOW = 500_000 * HOUR
# The page takes React from Airflow; what is tested here draws nothing.
NO_REACT = "export const C = {}, Link = null;" + "".join(
    f"export const {name} = () => null;"
    for name in ("h", "memo", "useCallback", "useEffect", "useId", "useRef", "useSearchParams", "useState")
)
LIMIT = {"max_share": 0.5, "eligible": 100, "matched": 80, "changed": 0, "error": "SafetyLimitError: no"}
HOLDER = {"owner": "standby/clean/x", "deployment": "standby", "since": "2027-01-01T00:00:00+00:00"}
FAILED = {"state": "failed", "reports": {"purge": {"error": "OSError: it broke"}}}
STOPPED = {"state": "failed", "reports": {"purge": LIMIT}}
WORKED = {"state": "success", "reports": {"purge": {"dry_run": False, "changed": 3}}}
DRY = {"state": "success", "dry": True, "reports": {"purge": {"dry_run": True, "matched": 3}}}
DRY_FAILED = {**FAILED, "dry": True}
BUSY = {"state": "skipped", "holder": HOLDER}
ELSEWHERE = {"state": "skipped", "elsewhere": True, "holder": {**HOLDER, "since": None}}


@pytest.fixture(scope="module")
def modules():
    """A function that calls a function of one of the page's modules."""
    with module_page(NO_REACT) as page:
        yield lambda name, function, *given: page.evaluate(
            "async ([url, name, given]) => (await import(url))[name](...given)",
            [f"/{name}", function, list(given)],
        )


def watcher(*runs, bars=""):
    """Return a watcher with runs, newest first, one in an hour; before them one for each letter of `bars`."""
    whole = [
        {"n": 1_000 - ago, "id": f"r{ago}", "kind": "scheduled", "after": NOW - HOUR * (ago + 1), **run}
        for ago, run in enumerate(runs)
    ]
    first = NOW - HOUR * (len(runs) + len(bars))
    times = [first, *[HOUR] * (len(bars) - 1)] if bars else []
    shown = {"s": bars, "r": None, "d": [1] * len(bars), "t": times}
    facts = {"id": "clean", "spec": "@hourly", "drydefault": True, "ownlimit": ["purge"], "next": NOW + HOUR}
    return {**facts, "runs": whole, "bars": shown}


@pytest.fixture
def need(modules):
    """A function that returns the kind of a watcher's line in Needs attention, and its steps."""

    def ask(*runs, bars="ss"):
        found = modules("story.js", "need", watcher(*runs, bars=bars), "prod", NOW)
        return found and (found["kind"], found["steps"])

    return ask


STOPPED_LINE = ("stopped", ["dryrun", "allow"])
FAILED_LINE = ("failed", ["run", "again"])


@pytest.mark.parametrize("later", [[DRY], [BUSY], [ELSEWHERE], [DRY, BUSY, DRY]])
def test_a_failure_stays_after_a_dry_run_and_after_a_skip(need, later):
    assert need(*later, STOPPED) == STOPPED_LINE
    assert need(*later, FAILED) == FAILED_LINE


def test_a_run_that_worked_ends_a_failure(need):
    assert need(WORKED, FAILED) is None
    assert need(BUSY, WORKED, FAILED) is None
    # A watcher that does dry runs only: the next of them makes good that one failed.
    assert need(DRY_FAILED, DRY) == FAILED_LINE
    assert need(DRY, DRY_FAILED) is None
    assert need(DRY, DRY_FAILED, STOPPED) == STOPPED_LINE


def test_a_standby_is_not_idle_while_another_deployment_works(need, modules):
    assert need(BUSY, bars="sskk")[0] == "idle"
    assert need(ELSEWHERE, bars="eeee") is None
    assert need(BUSY, bars="eeee") is None
    assert need(BUSY, bars="eekk")[0] == "idle"
    assert modules("story.js", "lastWorked", watcher(BUSY, bars="ssek")) == NOW - 3 * HOUR
    assert modules("story.js", "shownState", ELSEWHERE) == "elsewhere"
    # Airflow calls them skipped, and so do the totals.
    assert modules("story.js", "inADay", watcher(ELSEWHERE, bars="ek"), "skipped", NOW) == 3


def test_runs_shown_whole_are_not_always_the_last(modules):
    before = watcher(BUSY, FAILED, bars="ss")
    before["runs"][1]["after"] = NOW - 3.5 * HOUR  # between the two bars
    states = [one["state"] for one in modules("story.js", "past", before)]
    assert states == ["skipped", "success", "failed", "success"]


def test_the_row_says_when_the_list_knows_no_real_run(modules):
    """An older run may have failed, and nothing has made that good."""

    def says(*runs, bars):
        one = watcher(*runs, bars=bars)
        return "no real run among the last" in " ".join(
            modules("story.js", "facts", one, one["runs"][0], NOW)
        )

    known = "d" * 14 + "e" * 15
    assert says(BUSY, bars=known)
    assert says(DRY, bars=known)
    # All runs of the watcher are known.
    assert not says(DRY, bars=known[1:])
    assert not says(DRY, bars=f"s{known[1:]}")
    assert not says(DRY, FAILED, bars=known[1:])
    assert not says(WORKED, bars=known)


def test_a_run_whose_tasks_were_all_skipped_did_nothing(modules):
    shown = modules("story.js", "sentence", watcher(), {"state": "success", "nothing": True}, "prod", NOW)
    assert "Did nothing: all tasks were skipped" in str(shown)


def test_a_watcher_whose_file_is_broken_looks_broken(modules):
    assert modules("parts.js", "stateOf", watcher(WORKED)) == "success"
    assert modules("parts.js", "stateOf", {**watcher(WORKED), "broken": True}) == "broken"
    assert modules("words.js", "say", "state.broken") == "the file can't be loaded"


def test_rows_of_a_later_part_of_the_first_list_take_their_places(modules):
    def ids(kept, text, *more):
        return modules("filters.js", "inOrder", kept, [{"id": one} for one in text], *more)

    part = ids({"ids": []}, "bd", "by name", True)
    whole = ids(part, "abcd", "by name", False)
    assert [part["ids"], whole["ids"]] == [["b", "d"], ["a", "b", "c", "d"]]
    # While the page updates itself, a row stays where it is, and a new one comes last.
    assert ids(whole, "dxba", "by name", False)["ids"] == ["a", "b", "c", "d", "x"]
    assert ids(whole, "dba", "by state", False)["ids"] == ["d", "b", "a"]


def live(modules, before, *found):
    """Return a watcher after runs came, each an hour newer than the one before."""
    after = before
    for run in found:
        newest = max(after["runs"], key=lambda one: one["n"])
        facts = {"n": newest["n"] + 1, "id": "later", "kind": "manual", "after": newest["after"] + HOUR}
        after = modules("live.js", "withRuns", after, [{**facts, **run}], NOW)
    return after


def test_a_failure_stays_whole_while_the_page_updates_itself(modules):
    after = live(modules, watcher(FAILED, bars="sse"), DRY)
    assert [run["state"] for run in after["runs"]] == ["success", "failed"]
    assert after["bars"]["s"] == "sse"
    after = live(modules, after, BUSY)
    assert [run["state"] for run in after["runs"]] == ["skipped", "failed"]
    assert after["bars"]["s"] == "ssed"


def test_a_failure_that_is_over_becomes_a_bar_in_its_place(modules):
    after = live(modules, watcher(FAILED, bars="ss"), DRY, ELSEWHERE, WORKED)
    assert [run["state"] for run in after["runs"]] == ["success"]
    assert after["bars"]["s"] == "ssfde"
    assert after["bars"]["t"][1:] == [HOUR] * 4
    # A run that was cleared and ran again has its bar already.
    again = {**WORKED, "n": 900, "id": "again", "kind": "scheduled", "after": NOW - HOUR}
    assert modules("live.js", "withRuns", after, [again], NOW)["bars"] == after["bars"]


def test_a_run_that_has_a_bar_gets_no_second_one(modules):
    """Its number can be the largest one although a newer time has run: a run that waited is made later."""
    after = live(modules, watcher(FAILED, bars="ss"), DRY, WORKED)
    assert after["bars"]["s"] == "ssfd"
    again = {**DRY, "n": 900, "id": "waited", "kind": "scheduled", "after": sum(after["bars"]["t"])}
    assert modules("live.js", "withRuns", after, [again], NOW)["bars"] == after["bars"]
