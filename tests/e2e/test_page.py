"""The Watchers page on a whole Airflow: real runs, from their start to their undoing."""

from __future__ import annotations

import re
from contextlib import closing

import pytest
from playwright.sync_api import expect

from dev.airflow import ROOT, Airflow
from dev.page.browser import Visitor, chromium
from dev.run import MORE_ROWS, SLOW_DAGS
from dev.servers import SAMPLE_FILE, MariaDB, Redis
from dev.sessions import wait_until

LIST = "/plugin/watchers"
TAB = "/dags/{}/plugin/watcher"
PATIENCE = 180_000  # ms for a run on a busy machine
ROWS = 300_000
WATCHERS = 7

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    with (
        Airflow(
            folder / "airflow",
            deployment_id="prod",
            dags_folders=[ROOT / "dags", SLOW_DAGS],
            options={
                "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
                "AIRFLOW__IAM_WATCHER__ARCHIVE": f"file://{folder}/archive",
            },
        ) as airflow,
        MariaDB(folder / "mariadb") as mariadb,
        Redis(folder / "redis") as redis,
    ):
        mariadb.create_schema()
        mariadb.run_script(SAMPLE_FILE)
        with closing(mariadb.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(MORE_ROWS, {"rows": ROWS})
            connection.commit()
        airflow.connect(iam_mysql=mariadb.airflow_uri, iam_redis=redis.airflow_uri)
        airflow.finish(airflow.spawn("db-migrate", "db", "migrate"))
        airflow.start()
        airflow.wait_healthy()
        assert wait_until(lambda: airflow.api("/dags")["total_entries"] >= WATCHERS, 300, pause=1)
        yield airflow


@pytest.fixture(scope="module")
def browser():
    expect.set_options(timeout=PATIENCE)
    with chromium() as browser:
        yield browser


@pytest.fixture
def visit(airflow, browser):
    visitors = []

    def open_page(path):
        visitors.append(Visitor(browser, airflow))
        return visitors[-1].open(path)

    yield open_page
    for context in browser.contexts:
        context.close()
    assert [error for visitor in visitors for error in visitor.errors] == []


def row(page, watcher):
    return page.locator("tbody tr").filter(has=page.get_by_role("link", name=watcher, exact=True))


def run(page, watcher, *, switch_on=True):
    page.get_by_role("button", name=f"Run {watcher} …").click()
    if switch_on:
        page.get_by_text("Unpause the watcher. Its schedule then starts runs too.").click()
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_purge_moves_others_are_skipped_and_its_lock_is_released_by_force(visit, airflow):
    page = visit(LIST)
    run(page, "clean_slowly")
    bar = row(page, "clean_slowly").get_by_role("progressbar")
    expect(bar).to_be_visible()
    began = int(bar.get_attribute("aria-valuenow"))
    assert wait_until(lambda: int(bar.get_attribute("aria-valuenow")) > began, PATIENCE / 1000, pause=0.5)
    expect(row(page, "clean_slowly").locator(".lock")).to_contain_text("prod · this run")
    run(page, "clean_policy_audit")
    expect(row(page, "clean_policy_audit")).to_contain_text(
        "Skipped: the lock was held by clean_slowly since"
    )
    page.get_by_role("button", name="More for clean_slowly").click()
    page.get_by_role("menuitem", name="Release the lock by force …").click()
    page.get_by_label(re.compile("^Reason")).fill("the test has seen enough")
    page.get_by_role("button", name="Release the lock").click()
    expect(row(page, "clean_slowly").get_by_role("progressbar")).to_have_count(0)
    airflow.api("/dags/clean_slowly", {"is_paused": True}, method="PATCH")
    page.goto(f"{airflow.url}{TAB.format('clean_slowly')}")
    expect(page.get_by_text("by admin: “the test has seen enough”")).to_be_visible()


def test_a_dry_run_of_a_paused_watcher_then_a_real_run_and_its_undoing(visit, airflow):
    page = visit(LIST)
    page.get_by_role("button", name="More for disable_inactive_users").click()
    page.get_by_role("menuitem", name="Dry run …").click()
    page.get_by_role("button", name="Start the dry run").click()
    expect(page.locator("article").first).to_contain_text("Dry run: 1,240 of 2,920 users would be disabled")
    assert airflow.api("/dags/disable_inactive_users")["is_paused"] is True

    page.goto(f"{airflow.url}{LIST}")
    run(page, "disable_inactive_users")
    expect(row(page, "disable_inactive_users")).to_contain_text("1,240 of 2,920 users disabled")
    page.goto(f"{airflow.url}{TAB.format('disable_inactive_users')}")
    page.get_by_role("button", name="Show the users").first.click()
    expect(page.locator(".people li")).to_have_count(100)
    page.get_by_role("button", name="Show more").click()
    expect(page.locator(".people li")).to_have_count(200)
    page.get_by_role("button", name="Re-enable them …").first.click()
    expect(page.get_by_label("undo_record")).to_have_value(re.compile("^file://"))
    page.get_by_text("Unpause the watcher. Its schedule then starts runs too.").click()
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.goto(f"{airflow.url}{LIST}")
    expect(row(page, "reenable_users")).to_contain_text("1,240 of 1,240 users re-enabled")
