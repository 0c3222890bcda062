"""The Watchers page in a browser: an API server and Redis with invented runs, and no scheduler.

All tests share the server and the browser, which take long to start: hence the length.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from dev.airflow import ROOT
from dev.page.browser import Visitor, chromium
from dev.page.server import hold, page_server, progress
from dev.sessions import wait_until
from iam_watcher.schedule import describe, parse

pytestmark = pytest.mark.e2e
LIST = "/plugin/watchers"
TAB = "/dags/{}/plugin/watcher"
NASTY = "<img src=x onerror=window.hit=1>\"'\u202egnp"
PATIENCE = 30_000  # ms; an update comes each two seconds, and the machine may be busy
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with page_server(tmp_path_factory.mktemp("page")) as server:
        yield server


@pytest.fixture(scope="module")
def browser():
    # Until the end of this module only: other tests have event loops of their own.
    with chromium() as browser:
        yield browser


@pytest.fixture
def visit(server, browser):
    visitors = []

    def open_page(path, **facts):
        visitors.append(Visitor(browser, server[0], **facts))
        return visitors[-1].open(path)

    yield open_page
    for context in browser.contexts:
        context.close()
    errors = [error for visitor in visitors for error in visitor.errors]
    # What a test provokes: Airflow refuses a value. Chromium tells that to the console, too.
    assert [error for error in errors if "status of 400" not in error] == []


def row(page, watcher):
    return page.locator("tbody tr").filter(has=page.get_by_role("link", name=watcher, exact=True))


def write(server, code):
    """Run Python in the Airflow's environment, with a session of its database."""
    program = "from airflow.utils.session import create_session\nwith create_session() as session:\n"
    program += "".join(f"    {line}\n" for line in code.strip().splitlines())
    subprocess.run(
        [sys.executable, "-c", program], env=server[0].env, cwd=ROOT, check=True, stdout=subprocess.PIPE
    )


def findings(page):
    """Return axe-core's serious findings on our part of the page."""
    answer = Axe().run(page, context=".iw", options={"resultTypes": ["violations"]})
    return [
        (found["id"], [node["html"][:200] for node in found["nodes"]][:3])
        for found in answer.response["violations"]
        if found["impact"] in ("serious", "critical")
    ]


def test_first_what_needs_a_person_then_a_sentence_for_each(visit):
    page = visit(LIST)
    notes = page.locator(".attention .note")
    expect(notes.nth(0)).to_contain_text("1,552 of 2,800 users would be disabled (55%, limit 50%)")
    expect(notes.nth(1)).to_contain_text("the lock was held by standby at each of its last 5 runs")
    expect(row(page, "clean_sessions")).to_contain_text("Skipped: the lock was held by standby since")
    expect(row(page, "clean_sessions_gently")).to_contain_text(
        "Dry run: 48,210 of 90,000 rows would be deleted"
    )
    audit = row(page, "clean_policy_audit")
    expect(audit.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "62")
    expect(audit.locator(".lock")).to_contain_text("prod · this run")
    expect(audit.locator(".lock")).to_contain_text("1 waiting")
    expect(row(page, "collect_bounces").locator(".barrow span")).to_have_count(30)
    expect(row(page, "clean_sessions").get_by_role("img", name=re.compile("5 skipped"))).to_be_visible()


def test_the_totals_count_a_day_however_many_runs_a_watcher_had_then(visit, server):
    page = visit(LIST)
    lead = page.locator(".lead")
    # Of disable_inactive_users one; of collect_bounces three, the oldest of them before those of the bars.
    expect(lead).to_contain_text("4 failed in 24 h")
    bars = row(page, "collect_bounces").locator(".barrow span")
    expect(bars.first).to_have_attribute("title", re.compile("failed"))
    write(
        server,
        """
from datetime import UTC, datetime
from dev.page.past import add_run
add_run(session, "collect_bounces", at=datetime.now(UTC), state="success")
""",
    )
    expect(bars.first).not_to_have_attribute("title", re.compile("failed"))
    expect(lead).to_contain_text("4 failed in 24 h")


def test_filters_are_in_the_url_and_rows_keep_their_order(visit):
    page = visit(LIST)
    names = page.locator("tbody .name a")
    page.get_by_role("button", name=re.compile("^Not working")).click()
    expect(names).to_have_text(["clean_sessions"])
    assert "show=idle" in page.url
    page.reload()
    expect(names).to_have_text(["clean_sessions"])
    page.get_by_role("button", name=re.compile(r"^All \d")).click()
    page.get_by_role("searchbox").fill("cleansecret")
    expect(names).to_have_text(["clean_expired_secrets"])
    page.get_by_role("searchbox").fill("")
    page.get_by_role("combobox").select_option("name")
    expect(names.first).to_have_text("clean_expired_secrets")
    page.get_by_role("button", name="session", exact=True).first.click()
    expect(names).to_have_text(["clean_sessions", "clean_sessions_gently"])
    assert "tag=session" in page.url
    page.get_by_role("searchbox").fill("nothing like this")
    page.get_by_role("button", name="Clear the filters").click()
    expect(names).to_have_count(7)


def test_a_list_in_parts_is_in_order_and_does_not_shrink(visit):
    page = visit(LIST)
    names = page.locator("tbody .name a")
    expect(names).to_have_count(7)
    whole = names.all_text_contents()  # by their next runs; the server sends them by their names
    held = []

    def answer_in_parts(route):
        """Answer with three watchers at a time, and hold back the last part of a later list."""
        answer = route.fetch(url=re.sub(r"from=\d+", "from=0", route.request.url))
        begin = int(route.request.url.partition("from=")[2])
        facts = answer.json()
        facts["watchers"] = facts["watchers"][begin : begin + 3]
        if held and begin == 6:
            held.append(lambda: route.fulfill(response=answer, json=facts))
        else:
            route.fulfill(response=answer, json=facts)

    page.route("**/iam-watcher/watchers?from=*", answer_in_parts)
    page.reload()
    expect(names).to_have_text(whole)
    held.append(None)
    # A change asks for everything again.
    switch = page.get_by_role("checkbox", name="clean_expired_secrets is switched on")
    for is_on in (False, True):
        with page.expect_request("**/iam-watcher/watchers?from=6"):
            switch.locator("xpath=ancestor::label").click()
        page.wait_for_timeout(300)  # so that the page could draw the two parts that it has
        expect(names).to_have_text(whole, timeout=2_000)
        held.pop()()
        expect(switch).to_be_checked(checked=is_on)
        expect(names).to_have_text(whole)


def test_every_broken_watcher_is_in_the_list_of_those_that_need_a_person(visit):
    page = visit(LIST)

    def break_ten(route):
        answer = route.fetch()
        facts = answer.json()
        one = next(one for one in facts["watchers"] if one["id"] == "clean_expired_secrets")
        facts["watchers"] += [{**one, "id": f"broken_{n}", "name": None, "broken": True} for n in range(10)]
        route.fulfill(response=answer, json=facts)

    page.route("**/iam-watcher/watchers?from=*", break_ten)
    page.reload()
    attention = page.locator(".attention")
    expect(attention.locator(".note")).to_have_count(8)
    expect(attention).to_contain_text("4 more need attention.")
    page.get_by_role("button", name="Show all in the list").click()
    names = page.locator("tbody .name a")
    expect(names).to_have_count(12)
    assert "show=attention" in page.url
    for n in range(10):
        expect(row(page, f"broken_{n}").get_by_role("img", name="the file can't be loaded")).to_be_visible()
    page.get_by_role("combobox").select_option("state")
    expect(names.first).to_have_text("broken_0")


def test_it_updates_itself_by_small_answers_and_asks_nothing_while_hidden(visit, server):
    page = visit(LIST)
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "/iam-watcher/" in request.url else None)
    owner = (
        page.locator("tbody tr", has_text="clean_policy_audit")
        .locator(".lock [title]")
        .first.get_attribute("title")
    )
    progress(server[1], "clean", owner, task="purge/-1", share=0.81)
    bar = row(page, "clean_policy_audit").get_by_role("progressbar")
    expect(bar).to_have_attribute("aria-valuenow", "81")
    write(
        server,
        """
from datetime import UTC, datetime
from dev.page.past import add_run, report
done = report("secret", examined=77, changed=5)
xcoms = {("purge", "return_value"): done}
add_run(session, "clean_expired_secrets", at=datetime.now(UTC), state="success", xcoms=xcoms)
""",
    )
    expect(row(page, "clean_expired_secrets")).to_contain_text("5 of 77 rows deleted")
    assert {"/changes" in url for url in asked} == {True}
    page.evaluate(
        "Object.defineProperty(document, 'hidden', {get: () => true, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    page.wait_for_timeout(300)
    asked.clear()
    page.wait_for_timeout(2_500)  # longer than the pause between two questions: none may come
    assert asked == []
    page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for_timeout(500)
    assert len(asked) == 1


def test_the_tab_tells_the_story_of_one_watcher(visit):
    page = visit(TAB.format("disable_inactive_users"))
    expect(page.locator("ol.ticks").first.locator("li")).to_have_count(10)
    expect(page.get_by_text("Every day at 00:00:00 America/New_York")).to_be_visible()
    expect(page.locator(".card", has_text="Lock").first).to_contain_text("task")
    expect(page.locator(".card", has_text="Settings in force")).to_contain_text("90")
    first = page.locator("article").first
    expect(first).to_contain_text("Stopped by the safety limit: 1,552 of 2,800 users")
    expect(first.locator(".nums")).to_contain_text("1,552matched")
    page.locator("article").nth(1).get_by_role("button").first.click()
    expect(page.locator("article").nth(1)).to_contain_text("1,240disabled")
    # Undo: the form of the DAG that does it, filled in.
    page.get_by_role("button", name="Re-enable them …").click()
    expect(page.get_by_label("undo_record")).to_have_value(re.compile("^s3://iam/reports/user"))
    page.keyboard.press("Escape")
    page.goto(page.url.replace("disable_inactive_users", "clean_sessions"))
    expect(page.locator("article").first).to_contain_text(
        "Skipped: the lock was held by standby", timeout=PATIENCE
    )
    queue = page.locator(".card", has_text="Waiting queue").locator("ol.ticks li")
    expect(queue).to_have_text([re.compile(r"1\. a"), re.compile(r"2\. b")])
    page.goto(page.url.replace("clean_sessions", "plain"))
    expect(page.get_by_text("This DAG is not a watcher.")).to_be_visible(timeout=PATIENCE)


def test_a_run_by_the_watchers_own_form(visit, server):
    page = visit(LIST)
    page.get_by_role("button", name="Run disable_inactive_users …").click()
    days = page.get_by_label(re.compile("^max_inactive_days"))
    expect(days).to_have_value("90")
    days.fill("many")
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_disabled()
    days.fill("-5")
    page.get_by_text("dry_run", exact=True).click()
    page.get_by_role("button", name="Start the dry run").click()
    # Airflow's own words.
    expect(page.get_by_role("alert")).to_contain_text("-5 is less than the minimum of 0")
    days.fill("120")
    page.get_by_role("button", name="Start the dry run").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    (run,) = server[0].api("/dags/disable_inactive_users/dagRuns?state=queued")["dag_runs"]
    assert run["conf"] == {"dry_run": True, "max_inactive_days": 120, "max_share": 0.5}
    expect(row(page, "disable_inactive_users")).to_contain_text("Queued")


def test_a_dry_run_of_a_paused_watcher_leaves_it_paused(visit, server):
    page = visit(LIST)
    page.get_by_role("button", name="More for clean_sessions_gently").click()
    page.get_by_role("menuitem", name="Dry run …").click()
    expect(page.get_by_role("dialog")).to_contain_text("This watcher stays paused")
    page.get_by_role("button", name="Start the dry run").click()
    expect(page).to_have_url(re.compile("clean_sessions_gently/plugin/watcher"))
    (run,) = server[0].api("/dags/dry_run_watcher/dagRuns")["dag_runs"]
    assert run["conf"] == {"watcher": "clean_sessions_gently", "params": {"dry_run": True}}
    assert server[0].api("/dags/clean_sessions_gently")["is_paused"] is True
    # Nothing works here; it is among the runs of the watcher that it is for.
    expect(page.locator("article").first).to_contain_text("Queued")
    page.go_back()
    switch = page.get_by_role("checkbox", name="clean_sessions_gently is switched on")
    expect(switch).not_to_be_checked()
    switch.locator("xpath=ancestor::label").click()
    expect(switch).to_be_checked()
    is_paused = server[0].api
    assert wait_until(lambda: not is_paused("/dags/clean_sessions_gently")["is_paused"], 30)
    server[0].api("/dags/clean_sessions_gently", {"is_paused": True}, method="PATCH")


def test_a_lock_is_released_by_force_with_a_reason(visit, server):
    hold(server[1], "cleansecret", "standby/clean_expired_secrets/x")
    page = visit(LIST)
    page.get_by_role("button", name="More for clean_expired_secrets").click()
    page.get_by_role("menuitem", name="Release the lock by force …").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("standby/clean_expired_secrets/x")
    act = page.get_by_role("button", name="Release the lock")
    expect(act).to_be_disabled()
    dialog.get_by_label(re.compile("^Reason")).fill("its worker is gone")
    act.click()
    expect(dialog).to_have_count(0)
    expect(row(page, "clean_expired_secrets").locator(".lock")).to_contain_text("free")
    with server[1].client() as client:
        assert client.get("cleansecret") is None
    page.goto(f"{server[0].url}{TAB.format('clean_expired_secrets')}")
    expect(page.get_by_text("by admin: “its worker is gone”")).to_be_visible(timeout=PATIENCE)
    events = server[0].api("/eventLogs?event=iam_watcher_force_release")["event_logs"]
    assert [(event["owner"], event["dag_id"]) for event in events] == [("admin", "clean_expired_secrets")]


def test_a_viewer_sees_all_and_changes_nothing(visit):
    page = visit(LIST, user="viewer")
    expect(page.locator("tbody tr")).to_have_count(7)
    expect(page.get_by_role("button", name=re.compile("^Run "))).to_have_count(0)
    expect(page.get_by_role("checkbox").first).to_be_disabled()
    page.get_by_role("button", name="More for clean_sessions", exact=True).click()
    expect(page.get_by_role("menuitem")).to_have_text(["Open the watcher"])
    page = visit(TAB.format("clean_sessions"), user="viewer")
    expect(page.get_by_role("button", name="Release the lock by force …")).to_have_count(0)
    expect(page.get_by_role("button", name=re.compile("^(Run|Dry run) …$"))).to_have_count(0)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious(visit, dark):
    assert findings(visit(LIST, dark=dark)) == []
    page = visit(TAB.format("disable_inactive_users"), dark=dark)
    page.locator("article").nth(1).get_by_role("button").first.click()
    assert findings(page) == []


def test_by_keyboard_alone(visit):
    page = visit(LIST)
    page.get_by_role("searchbox").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name=re.compile(r"^All \d"))).to_be_focused()
    run = page.get_by_role("button", name="Run clean_sessions …")
    run.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(run).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("menu")).to_be_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Escape")
    expect(page.get_by_role("menu")).to_have_count(0)


def test_the_tab_shows_a_tilde_and_its_value(visit):
    schedule = parse("~ * * * *", dag_id="clean_expired_secrets")
    page = visit(TAB.format("clean_expired_secrets"))
    card = page.locator(".card", has_text="Schedule").first
    expect(card).to_contain_text(describe(schedule).capitalize())
    expect(card.locator("code")).to_have_text("0 ~ * * * *")
    expect(card).to_contain_text(f"The DAG id decides the values of ~: {schedule}")
    expect(card.locator("ol.ticks li")).to_have_count(10)


def test_older_runs_stay_when_new_ones_come_and_none_is_missing(visit, server):
    write(
        server,
        """
from airflow.models.dagrun import DagRun
from dev.page.past import add_run
runs = session.query(DagRun).filter_by(dag_id="collect_bounces").order_by(DagRun.run_after.desc())
last = runs[19].run_after  # of the first page; the other run of its second is on the next one
other = last.replace(microsecond=(last.microsecond + 500_000) % 1_000_000)
add_run(session, "collect_bounces", at=other, state="success")
""",
    )
    page = visit(TAB.format("collect_bounces"))
    times = page.locator("article time")
    expect(times).to_have_count(20)
    last = times.nth(19).get_attribute("title")
    page.locator(".iw").get_by_role("button", name="Older runs").click()
    expect(page.locator(f'article time[title="{last}"]')).to_have_count(2)
    expect(times).to_have_count(39)  # the run that was asked for twice is there once
    older = [one.get_attribute("title") for one in times.all()]
    for new in (1, 2):
        write(
            server,
            """
from datetime import UTC, datetime
from dev.page.past import add_run
add_run(session, "collect_bounces", at=datetime.now(UTC), state="success")
""",
        )
        expect(times).to_have_count(39 + new)
    assert [one.get_attribute("title") for one in times.all()][2:] == older


def test_chinese_and_narrow(visit):
    page = visit(LIST, language="zh-CN", width=420)
    expect(page.get_by_role("heading", name="需要处理")).to_be_visible()
    expect(row(page, "clean_sessions")).to_contain_text("已跳过")
    expect(row(page, "clean_sessions")).to_contain_text("每天 03:00:00")
    wide = page.evaluate(
        "document.querySelector('.iw').scrollWidth - document.querySelector('.iw').clientWidth"
    )
    assert wide <= 0
    page.evaluate("localStorage.setItem('i18nextLng', 'en'); document.documentElement.lang = 'en'")
    expect(page.get_by_role("heading", name="Needs attention")).to_be_visible()


def test_texts_of_others_are_inert(visit, server):
    write(
        server,
        f"""
from datetime import UTC, datetime
from dev.page.past import add_run, report
nasty = {NASTY!r}
done = report(nasty, examined=3, changed=3, error=nasty, skipped={{nasty: 1}}, examples=[{{"name": nasty}}])
xcoms = {{("purge", "return_value"): done}}
add_run(session, "clean_expired_secrets", at=datetime.now(UTC), state="failed", user=nasty, xcoms=xcoms)
""",
    )
    hold(server[1], "cleansecret", f"{NASTY}/x/y")
    for path in (LIST, TAB.format("clean_expired_secrets")):
        page = visit(path)
        expect(page.get_by_text("<img src=x onerror").first).to_be_visible()
        assert page.evaluate("[window.hit, document.querySelectorAll('.iw img').length]") == [None, 0]


def test_without_redis_the_rest_stands(visit, server):
    page = visit(LIST)
    server[1].process.stop()
    expect(page.get_by_text(re.compile("Redis can't be reached"))).to_be_visible(timeout=PATIENCE)
    expect(row(page, "clean_sessions").locator(".lock")).to_have_text(re.compile("not known"))
    expect(row(page, "disable_inactive_users")).to_contain_text("users")
    assert json.loads(page.evaluate("localStorage.getItem('timezone')")) == "UTC"
