"""The Watchers page below a path, for people with another time zone, another language or other rights."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from dev.page.browser import Visitor, chromium
from dev.page.server import page_server

pytestmark = pytest.mark.e2e
LIST = "/plugin/watchers"
TAB = "/dags/clean_sessions/plugin/watcher"
PATH = "/some/airflow"
PATIENCE = 30_000  # ms
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    options = {"AIRFLOW__CORE__AUTH_MANAGER": "tests.page.auth.TriggerOnlyAuthManager"}
    with page_server(tmp_path_factory.mktemp("page"), path=PATH, options=options) as (airflow, _):
        yield airflow


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def visit(airflow, browser):
    visitors = []

    def open_page(path, **facts):
        visitors.append(Visitor(browser, airflow, **facts))
        return visitors[-1].open(path)

    yield open_page
    for context in browser.contexts:
        context.close()
    assert [error for visitor in visitors for error in visitor.errors] == []


def row(page, watcher):
    return page.locator("tbody tr").filter(has=page.get_by_role("link", name=watcher, exact=True))


def test_below_a_path(visit, airflow):
    asked = []
    page = visit(LIST)
    page.on("request", lambda request: asked.append(request.url))
    expect(page.locator("tbody tr")).to_have_count(7)
    row(page, "clean_sessions").get_by_role("link").first.click()
    expect(page).to_have_url(f"{airflow.url}{TAB}")
    first = page.locator("article", has_text="Skipped: the lock was held by standby").first
    first.get_by_role("button").click()
    first.get_by_role("link", name="Open the run in Airflow").click()
    expect(page).to_have_url(re.compile(f"^{airflow.url}/dags/clean_sessions/runs/"))
    assert any("/iam-watcher/" in url for url in asked)
    assert [url for url in asked if not url.startswith((airflow.url, "data:", "blob:"))] == []


def test_times_are_in_airflows_time_zone(visit):
    page = visit(TAB, zone="Asia/Shanghai")
    # Each day at 03:00 UTC; the runs of the samples are for midnight UTC.
    tick = page.locator("ol.ticks").first.locator("li").first
    expect(tick).to_contain_text("11:00")
    expect(tick).to_have_attribute("title", re.compile("11:00:00 Asia/Shanghai$"))
    run = page.locator("article", has_text="Skipped").first.locator("time")
    expect(run).to_contain_text("08:00")
    expect(run).to_have_attribute("title", re.compile("08:00:00 Asia/Shanghai$"))
    page = visit(LIST, zone="Asia/Shanghai")
    expect(page.locator(".lead time")).to_have_text(re.compile("Asia/Shanghai$"))
    bar = row(page, "clean_sessions").locator(".barrow span").first
    expect(bar).to_have_attribute("title", re.compile("08:00:00 Asia/Shanghai"))


def test_any_other_language_of_airflow_gets_english(visit):
    page = visit(LIST, language="de")
    expect(page.locator("html")).to_have_attribute("lang", "de")
    expect(page.get_by_role("heading", name="Needs attention")).to_be_visible()
    expect(page.locator(".attention .note").first).to_contain_text("1,552 of 2,800 users would be disabled")
    expect(row(page, "clean_sessions")).to_contain_text("Every day at 03:00:00", ignore_case=True)
    expect(page.locator(".iw")).to_have_attribute("lang", "en")


def test_who_may_trigger_runs_and_not_edit_dags(visit, airflow):
    page = visit(LIST, user="user")
    expect(page.get_by_role("button", name=re.compile("^Run "))).to_have_count(7)
    for switch in page.get_by_role("checkbox").all():
        expect(switch).to_be_disabled()
    page.get_by_role("button", name="More for clean_sessions", exact=True).click()
    expect(page.get_by_role("menuitem")).to_have_text(["Dry run …", "Open the watcher"])
    page = visit(TAB, user="user")
    expect(page.get_by_role("button", name="Release the lock by force …")).to_have_count(0)
    page.get_by_role("button", name="Dry run …").click()
    page.get_by_role("button", name="Start the dry run").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    (run,) = airflow.api("/dags/clean_sessions/dagRuns?state=queued")["dag_runs"]
    assert (run["triggering_user_name"], run["conf"]) == ("user", {"dry_run": True})
    # The admin sees what the user does not.
    page = visit(TAB)
    expect(page.get_by_role("button", name="Release the lock by force …")).to_be_visible()
