"""What the page says of a run with several run reports, by the page's own modules in a browser.

All tests call the modules in the same browser: hence the length.
"""
# ruff: noqa: RUF001  Chinese has its own semicolon

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product

import pytest

from dev.page.browser import module_page
from iam_watcher.jobs.restore_report import NOT_RESTORED
from iam_watcher.jobs.run_report import REASONS
from iam_watcher.schedule import parse
from iam_watcher.timetables.schedule_timetable import ScheduleTimetable
from iam_watcher.ui.reports import COUNTS, NUMBER_FACTS, TEXT_FACTS
from iam_watcher.ui.runs import Run
from iam_watcher.ui.ticks import schedule_json

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
AT = datetime(1970, 1, 1, 0, 20, tzinfo=UTC)
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
    with module_page(REACT) as page:

        def call(name, function, *given, language="en"):
            if name is None:
                return page.evaluate(function, list(given))
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


def test_a_reason_has_the_words_of_its_job(module, shows):
    refused = {"changed": 0, "restored": 0, "skipped": {"foreign_key": 2}}
    run = run_of(purge=refused, restore=refused)
    of_purge, of_restore = (reasons["foreign_key"][1] for reasons in (REASONS, NOT_RESTORED))
    facts = module("story", "facts", {**WATCHER, "runs": [run]}, run, NOW)
    assert {f"2 {of_purge}", f"2 {of_restore}"} <= {*facts}
    for task, words, others in (("purge", of_purge, of_restore), ("restore", of_restore, of_purge)):
        text = shows(run_of(**{task: refused}))
        assert f"2{words}" in text
        assert others not in text
    assert "2缺少所引用的行" in shows(run_of(restore=refused), language="zh-CN")


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


def test_the_numbers_besides_the_rows_of_the_table(shows):
    expired = shows(
        run_of(disable={"changed": 2, "also": {"secrets_expired": 3, "due_in_7_days": 1, "odd_one": 4}})
    )
    for part in ("3secrets expired", "1will be disabled within 7 days", "4odd one"):
        assert part in expired
    assert "2secrets not restored: changed since" in shows(
        run_of(enable={"secrets_left": {"changed_since": 2}})
    )
    assert "5with another value in mail" in shows(run_of(restore={"restored": 9, "altered": {"mail": 5}}))


# Calls functions of modules with a value in which each read of a fact is recorded, and returns the facts.
READ = """async ([calls, value]) => {
  const read = new Set(), seen = new WeakMap();
  const record = (one, path) => {
    if (typeof one !== "object" || one === null) return one;
    if (!seen.has(one)) {
      const get = (of, name) => {
        if (typeof name === "symbol" || Array.isArray(of)) return record(of[name], path);
        read.add(`${path}${name}`);
        return record(of[name], `${path}${name}.`);
      };
      seen.set(one, new Proxy(one, { get }));
    }
    return seen.get(one);
  };
  const recorded = record(value, "");
  const filled = (one) => {
    if (one === "VALUE") return recorded;
    if (Array.isArray(one)) return one.map(filled);
    if (typeof one !== "object" || one === null) return one;
    return Object.fromEntries(Object.entries(one).map(([name, inner]) => [name, filled(inner)]));
  };
  for (const [module, name, given] of calls) (await import(`/${module}.js`))[name](...filled(given));
  return [...read];
}"""


@pytest.fixture
def reads(module):
    """A function that returns which facts of a value the page reads; "VALUE" in arguments is the value."""
    return lambda value, *calls: set(module(None, READ, calls, value))


def test_the_page_shows_each_fact_of_a_run_and_of_a_report_that_the_server_sends(reads):
    facts = dict.fromkeys(NUMBER_FACTS, 1) | dict.fromkeys(TEXT_FACTS, "max_rows")
    facts |= {name: {"gone": 1} for name in COUNTS} | {"real_run": ["x"], "examples": [{"key": "1"}]}
    sent, read = set(), set()
    watcher = {**WATCHER, "runs": ["VALUE"]}
    kinds = (facts, {name: fact for name, fact in facts.items() if name not in ("changed", "error")})
    states = ("success", "failed", "skipped", "running")
    for task, dry, state, some in product(JOBS, (True, False), states, kinds):
        run = Run(7, "w", "r", "scheduled", state, "success", AT, AT, AT, None, "purge")
        if state == "skipped":
            run = Run(7, "w", "r", "manual", "success", "skipped", AT, AT, AT, "ada", None)
            run.take_holder({"owner": "a/b/c", "since": AT.isoformat(), "deployment": "a"}, done="true")
        for part in range(25):
            run.take(task, part, some | {"dry_run": dry}, written="1", before=None, dry_run=str(dry).lower())
        value = run.as_json("dry_run_watcher") | ({"waits": True} if state == "running" else {})
        found = reads(
            value,
            ["story", "need", [watcher, "prod", NOW]],
            ["story", "sentence", [watcher, "VALUE", "prod", NOW]],
            ["story", "facts", [watcher, "VALUE", NOW]],
            ["parts", "Bars", [{"watcher": watcher}]],
            ["runs", "Runs", [{"watcher": watcher, "runs": ["VALUE"], "home": "prod", "now": NOW}]],
        )
        # A fact of a report is read as "reports.purge/0.changed".
        read |= {name.split(".")[0] for name in found}
        read |= {f"report.{name.split('.')[2]}" for name in found if name.count(".") > 1}
        sent |= value.keys() | {f"report.{name}" for one in value["reports"].values() for name in one}
    assert len(sent) > 40
    assert sent - read == set()


def test_the_page_shows_each_fact_of_a_schedule_that_the_server_sends(reads):
    sent, read = set(), set()
    for spec in ("CRON_TZ=Europe/Berlin ~ 3 * * *", "@every 1d", "@after 5m"):
        stored = ScheduleTimetable(parse(spec, dag_id="w")).serialize()
        schedule = schedule_json(stored | {"overlap": "skip", "missed_grace": 60})
        watcher = {**WATCHER, "schedule": "VALUE"}
        sent |= schedule.keys()
        read |= reads(schedule, ["cards", "ScheduleCard", [{"watcher": watcher, "now": NOW}]])
    assert len(sent) > 5
    assert sent - read == set()
