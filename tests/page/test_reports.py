"""What the page says of a run with several run reports, by the page's own modules in a browser."""
# ruff: noqa: RUF001  Chinese has its own semicolon

from __future__ import annotations

import pytest

from dev.airflow import ROOT
from dev.page.browser import chromium

PAGE = ROOT / "plugins" / "iam_watcher" / "ui" / "page"
SITE = "http://page.test/"
# An element is the text in it; a component is called.
REACT = """
export const h = (type, props, ...children) =>
  typeof type === "function" ? type({ ...props, children })
    : [...children, props?.children].flat(9).filter((one) => one || one === 0).join("");
export const useState = (value) => [value, () => {}];
export const useEffect = () => {};
export const useId = () => "id";
export const C = new Proxy({}, { get: (_, name) => name });
export const Link = "a";
"""
NOW = 2_000
JOBS = {
    "disable": "DisableInactiveUsersOperator",
    "enable": "ReenableUsersOperator",
    "mark": "AnonymizeRowsOperator",
    "process": "ProcessRowsOperator",
    "purge": "PurgeRowsOperator",
    "restore": "RestoreRowsOperator",
}
MAY = {"reports": True, "undo": {"undo": {"dag": "a", "param": "b"}, "archive": {"dag": "a", "param": "b"}}}
WATCHER = {"id": "w", "jobs": JOBS, "may": MAY, "bars": {"s": "", "r": None, "d": [], "t": []}, "runs": []}
LIMIT = {
    "dry_run": False,
    "changed": 0,
    "matched": 60,
    "eligible": 100,
    "max_share": 0.5,
    "error": "SafetyLimitError: no",
}


@pytest.fixture(scope="module")
def module():
    """A function that calls a function of a module of the page, in a language."""

    def serve(route):
        name = route.request.url.removeprefix(SITE).partition("?")[0]
        if name.endswith(".js"):
            body = REACT if name == "react.js" else (PAGE / name).read_text()
            route.fulfill(body=body, content_type="text/javascript")
        else:
            route.fulfill(body="<!doctype html><html lang=en>", content_type="text/html")

    with chromium() as browser:
        page = browser.new_page()
        page.route(f"{SITE}**", serve)
        page.goto(SITE)

        def call(name, function, *given, language="en"):
            page.evaluate("(language) => { document.documentElement.lang = language; }", language)
            return page.evaluate(
                "async ([name, function_, given]) => (await import(name))[function_](...given)",
                [f"/{name}.js", function, list(given)],
            )

        yield call


def run_of(state="success", **reports):
    """Return a run whose tasks returned these reports; `purge_3` is a part of a mapped task."""
    named = {name.replace("_", "/"): {"dry_run": False, **report} for name, report in reports.items()}
    return {"n": 1, "id": "r", "kind": "scheduled", "state": state, "after": 1_000, "reports": named}


@pytest.fixture
def says(module):
    """A function that returns the sentence of a run."""

    def say(run, **how):
        return "".join(module("story", "sentence", WATCHER, run, "prod", NOW, **how))

    return say


@pytest.fixture
def shows(module):
    """A function that returns the text of a run in the tab."""

    def show(run, may=MAY, **how):
        given = {"watcher": {**WATCHER, "may": may}, "runs": [run], "home": "prod", "now": NOW}
        return module("runs", "Runs", given, **how)

    return show


def test_the_parts_of_a_mapped_job_are_added(says):
    run = run_of(purge_0={"examined": 1_000, "changed": 0}, purge_1={"examined": 500, "changed": 20})
    assert says(run) == "20 of 1,500 rows deleted"
    run["reports"]["purge/+"] = {"dry_run": False, "parts": 3, "examined": 500, "changed": 1}
    assert says(run) == "21 of 2,000 rows deleted"
    assert says(run, language="zh-CN") == "2,000 个行中已删除 21 个"


def test_each_job_that_changed_something_has_its_sentence(says):
    mark, purge = {"examined": 10, "changed": 3}, {"examined": 100, "changed": 5}
    assert says(run_of(mark=mark, purge=purge)) == "3 of 10 rows changed; 5 of 100 rows deleted"
    assert (
        says(run_of(mark=mark, purge=purge), language="zh-CN")
        == "10 个行中已更改 3 个；100 个行中已删除 5 个"
    )
    assert says(run_of(mark={**mark, "changed": 0}, purge=purge)) == "5 of 100 rows deleted"
    assert says(run_of(mark=mark, purge={**purge, "changed": 0})) == "3 of 10 rows changed"
    nothing = run_of(mark={**mark, "changed": 0}, purge={**purge, "changed": 0})
    assert says(nothing) == "No rows changed; 10 examined"


def test_a_dry_run_of_all_jobs_of_a_watcher(says):
    dry = {"dry_run": True, "changed": 0}
    run = run_of(
        disable={**dry, "examined": 9, "matched": 2},
        purge_0={**dry, "examined": 10, "matched": 0},
        purge_1={**dry, "examined": 10, "matched": 4},
    )
    assert says(run) == "Dry run: 2 of 9 users would be disabled; Dry run: 4 of 20 rows would be deleted"
    # A job whose own `dry_run` is set, beside one that works.
    mixed = run_of(mark={"examined": 5, "changed": 1}, purge={**dry, "examined": 10, "matched": 4})
    assert says(mixed) == "1 of 5 rows changed; Dry run: 4 of 10 rows would be deleted"


def test_a_failed_run_shows_the_error_that_a_report_has(says, module):
    run = run_of("failed", mark={"changed": 3}, purge={"changed": 0, "error": "OSError: It broke"})
    assert says(run) == "Failed: It broke"
    need = module("story", "need", {**WATCHER, "runs": [run]}, "prod", NOW)
    assert "".join(need["text"]).endswith("It broke")


def test_nothing_was_changed_only_if_no_job_of_the_run_changed_something(module):
    for changed, nothing in ((0, True), (3, False)):
        run = run_of("failed", mark={"changed": changed}, purge=LIMIT)
        watcher = {**WATCHER, "runs": [run]}
        assert ("nothing was changed" in module("story", "facts", watcher, run, NOW)) is nothing
        need = module("story", "need", watcher, "prod", NOW)
        assert need["kind"] == "stopped"
        assert ("Nothing was changed." in "".join(need["text"])) is nothing


def test_the_facts_below_the_sentence_are_of_all_reports(module):
    one = {"changed": 1, "stopped": "max_rows", "skipped": {"admin": 2, "newest": 1}}
    run = run_of(purge_0=one, purge_1={**one, "skipped": {"admin": 3}}, process={"failed": 2, "remaining": 4})
    run["reports"]["process/1"] = {"failed": 5}
    found = module("story", "facts", {**WATCHER, "runs": [run]}, run, NOW)
    assert found.count("stopped at the row limit") == 1
    assert "5 admins" in found
    assert "7 failed" in found
    assert "4 pending" in found


def test_the_tab_names_each_report(shows):
    run = run_of(purge_0={"examined": 10, "changed": 1}, mark={"examined": 5, "changed": 1})
    run["reports"]["purge/+"] = {"dry_run": False, "parts": 12, "examined": 70, "changed": 7}
    text = shows(run)
    for name in ("Task purge/0", "Task mark", "Task purge: the sum of 12 other parts", "7deleted"):
        assert name in text


def test_rows_of_earlier_tries_count(says, shows, module):
    record = {"undo_record": "file:///r/1"}
    facts = {
        "examined": 3,
        "matched": 0,
        "changed": 0,
        "changed_before": 300,
        "duration_seconds": 2,
        **record,
    }
    run = run_of(disable=facts)
    assert says(run) == "300 of 303 users disabled"
    text = shows(run)
    for part in ("303examined", "300disabled", "300by earlier tries", "2rows a second", "Show the users"):
        assert part in text
    assert "Re-enable them …" in text
    assert "matched" not in text
    assert "Re-enable them …" not in shows(run_of(disable={**facts, "changed_before": 0}))
    assert "earlier tries" not in shows(run_of(disable={**facts, "changed_before": 0}))
    limit = run_of("failed", purge={**LIMIT, "changed_before": 5})
    watcher = {**WATCHER, "runs": [limit]}
    assert "Nothing was changed." not in "".join(module("story", "need", watcher, "prod", NOW)["text"])
