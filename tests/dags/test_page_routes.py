"""The routes of the Watchers page: who may use each of them, from where, and what they never show.

A test goes through all routes, and each kind of right is tried on them: hence the length.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import BaseOperator
from sqlalchemy import select, update

from iam_watcher import Lock, Watcher
from iam_watcher.archive.storage import Folder
from iam_watcher.archive.writer import Archive, Packed
from iam_watcher.jobs.command import CommandOperator
from iam_watcher.jobs.disable_users import DisableInactiveUsersOperator
from iam_watcher.jobs.dry_run_watcher import DryRunWatcherOperator
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.jobs.reenable_users import ReenableUsersOperator
from iam_watcher.schedule import describe, parse
from tests.dags.page import NOW, OURS, PREFIX, PerDagAuthManager, add_run, body, parse_file, report

ROLES = {"viewer": "viewer", "user": "user", "admin": "admin", "only": "user", "blind": "user"}
READ = ("/watchers", "/changes?after=0", "/watchers/page_other", "/watchers/page_other/runs")
USERS = "/watchers/page_other/users?run_id={}&task_id=disable"
RELEASE = "/watchers/{}/force-release"
NASTY = "<img src=x onerror=alert(1)>\"'\u202egnp.exe" + "x" * 10_000


def watcher(dag_id, **arguments):
    with Watcher(dag_id, schedule="@every 1d", **arguments) as dag:
        DisableInactiveUsersOperator(task_id="disable", max_inactive_days=90)
    return dag


@pytest.fixture(scope="module")
def app(airflow_db, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__CORE__AUTH_MANAGER", "tests.dags.page.PerDagAuthManager")
        patch.setenv(
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", ",".join(f"{n}:{r}" for n, r in ROLES.items())
        )
        patch.setenv(
            "AIRFLOW__API_AUTH__JWT_SECRET", "a secret of this test, and of no other place at all " * 2
        )
        passwords = tmp_path_factory.mktemp("users") / "passwords.json"
        patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", str(passwords))
        from airflow.api_fastapi.app import create_app, purge_cached_app

        purge_cached_app()
        yield create_app()
        purge_cached_app()


@pytest.fixture
def call(app):
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.auth.tokens import JWTGenerator  # noqa: F401  a canary
    from fastapi.testclient import TestClient

    manager = app.state.auth_manager

    def ask(who, method, path, *, how="bearer", **arguments):
        client = TestClient(app, raise_server_exceptions=True)
        headers = dict(arguments.pop("headers", {}))
        token = "not.a.token" if who == "bad" else None
        if who in ROLES:
            token = manager.generate_jwt(SimpleAuthManagerUser(username=who, role=ROLES[who].upper()))
        if token and how == "bearer":
            headers["Authorization"] = f"Bearer {token}"
        elif token:
            client.cookies.set("_token", token)
        return client.request(method, f"{PREFIX}{path}", headers=headers, **arguments)

    return ask


@pytest.fixture
def watchers(store_dag, redis_client):
    from airflow.utils.session import create_session

    for dag in (watcher("page_only"), watcher("page_other", lock="clean")):
        store_dag(dag)
    with create_session() as session:
        yield session


@pytest.mark.parametrize("how", ["bearer", "cookie"])
@pytest.mark.parametrize("path", [*READ, "/page/watchers.js", "/page/icon.svg"])
def test_who_may_read(path, how, call, watchers):
    if "/page/" not in path:
        add_run(watchers, "page_other", 1) if "runs" in path and how == "bearer" else None
    codes = {who: call(who, "GET", path, how=how).status_code for who in ("anonymous", "bad", *ROLES)}
    only = 403 if "page_other" in path else 200
    assert codes == {
        "anonymous": 401,
        "bad": 403,
        "viewer": 200,
        "user": 200,
        "admin": 200,
        "only": only,
        "blind": 200,
    }


def write_undo_record(url, names):
    """Write an undo record as a run that disabled these users leaves it."""
    facts = {"kind": "disabled_users", "table": "user", "key": "id", "now": "2027-03-10T08:00:00+00:00"}
    archive = Archive(Folder(url), facts)
    lines = [{"id": n, "name": name, "loginedAt": "2026-05-02 00:00:00"} for n, name in enumerate(names)]
    archive.add(Packed.of(len(lines), [json.dumps(line).encode() + b"\n" for line in lines]))
    archive.close()


@pytest.mark.parametrize("how", ["bearer", "cookie"])
def test_who_may_read_whom_a_run_disabled(how, call, watchers, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__ARCHIVE", f"file://{tmp_path}/records")
    write_undo_record(f"file://{tmp_path}/records/run", [f"user-{n}" for n in range(150)])
    done = report(undo_record=f"file://{tmp_path}/records/run")
    hours = 30 if how == "cookie" else 31
    path = USERS.format(
        quote(add_run(watchers, "page_other", hours, xcoms={("disable", "return_value"): done}))
    )
    codes = {who: call(who, "GET", path, how=how).status_code for who in ("anonymous", "bad", *ROLES)}
    good = dict.fromkeys(("viewer", "user", "admin"), 200)
    assert codes == {"anonymous": 401, "bad": 403, **good, "only": 403, "blind": 403}
    page = body(call("viewer", "GET", path))
    assert (len(page["users"]), page["more"]) == (100, True)
    assert page["users"][0] == {"name": "user-0", "seen": "2026-05-02 00:00:00"}
    rest = body(call("viewer", "GET", f"{path}&from=100"))
    assert (len(rest["users"]), rest["more"]) == (50, False)
    # Whoever can write an XCom names no other place of this machine.
    away = report(undo_record=f"file://{tmp_path}/elsewhere/run")
    path = USERS.format(
        quote(add_run(watchers, "page_other", hours + 2, xcoms={("disable", "return_value"): away}))
    )
    refused = call("admin", "GET", path)
    assert (refused.status_code, "below the location" in refused.text) == (409, True)


def test_the_users_of_each_part_of_a_mapped_job(call, watchers, store_dag, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__ARCHIVE", f"file://{tmp_path}/all")
    own = f"file://{tmp_path}/own"
    parts = [{"max_inactive_days": 30, "undo_location": own}, {"max_inactive_days": 90}]
    with Watcher("page_mapped", schedule=None) as dag:
        DisableInactiveUsersOperator.partial(task_id="disable").expand_kwargs(parts)
        part = DisableInactiveUsersOperator.partial(task_id="same", undo_location=own)
        part.expand(max_inactive_days=[30, 90])
    store_dag(dag)
    records = {"disable/0": f"{own}/0", "disable/1": f"file://{tmp_path}/all/1", "same/1": f"{own}/2"}
    for name, url in records.items():
        write_undo_record(url, [f"user of {name}"])
    xcoms = {(name, "return_value"): report(undo_record=url) for name, url in records.items()}
    run = quote(add_run(watchers, "page_mapped", 30, xcoms=xcoms))
    path = f"/watchers/page_mapped/users?run_id={run}&task_id="
    for name in records:
        (user,) = body(call("viewer", "GET", f"{path}{quote(name, safe='')}"))["users"]
        assert user["name"] == f"user of {name}"
        assert call("blind", "GET", f"{path}{name}").status_code == 403
    assert call("viewer", "GET", f"{path}disable/2").status_code == 404
    assert call("viewer", "GET", f"{path}disable").status_code == 404
    for odd in ("disable/x", "disable/-1", "disable/0/1", f"disable/{10**12}", ""):
        assert call("viewer", "GET", f"{path}{odd}").status_code == 422
    away = {("same/0", "return_value"): report(undo_record=f"file://{tmp_path}/all/1")}
    run = quote(add_run(watchers, "page_mapped", 29, xcoms=away))
    assert call("admin", "GET", f"/watchers/page_mapped/users?run_id={run}&task_id=same/0").status_code == 409


@pytest.mark.parametrize("how", ["bearer", "cookie"])
def test_who_may_start_a_dry_run_of_a_watcher(how, call, watchers, store_dag):
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun

    def codes():
        sent = {"json": {"conf": {"max_inactive_days": 3}}, "headers": OURS}
        path = "/watchers/page_other/dry-run"
        return {
            who: call(who, "POST", path, how=how, **sent).status_code for who in ("anonymous", "bad", *ROLES)
        }

    # Other tests of this process may have stored the shipped DAG.
    watchers.execute(update(DagModel).where(DagModel.dag_id == "dry_run_watcher").values(is_stale=True))
    watchers.commit()
    refused = {"anonymous": 401, "bad": 403, "viewer": 403, "only": 403}
    if how == "bearer":
        # Without the DAG that does it.
        assert codes() == {**refused, "user": 409, "admin": 409, "blind": 409}
    with Watcher("page_dry_run", schedule=None, lock=None) as dag:
        DryRunWatcherOperator(task_id="dry_run", watcher="{{ params.w }}")
    store_dag(dag)
    watchers.get(DagModel, "page_dry_run").is_paused = False
    watchers.get(DagModel, "page_other").is_paused = True
    watchers.commit()
    assert codes() == {**refused, "user": 200, "admin": 200, "blind": 200}
    watchers.expire_all()
    # A person can't use it: it is in no list.
    listed = body(call("admin", "GET", "/watchers"))
    assert "page_dry_run" not in [row["id"] for row in listed["watchers"]]
    assert listed["total"] == len(listed["watchers"])
    changed = body(call("admin", "GET", "/changes?after=0"))
    assert {one[0] for one in changed["next"]} == {row["id"] for row in listed["watchers"]}
    assert "page_dry_run" not in changed["runs"]
    assert watchers.get(DagModel, "page_other").is_paused
    started = watchers.scalars(select(DagRun).where(DagRun.dag_id == "page_dry_run")).all()
    assert {run.triggering_user_name for run in started} == {"user", "admin", "blind"}
    assert started[0].conf == {"watcher": "page_other", "params": {"max_inactive_days": 3}}
    # Among the runs of the watcher that it is for.
    shown = body(call("viewer", "GET", "/watchers/page_other/runs?limit=100"))["runs"]
    assert len([run for run in shown if run.get("dag") == "page_dry_run"]) == len(started)
    watchers.get(DagModel, "page_dry_run").is_paused = True
    watchers.commit()
    assert codes()["admin"] == 409


@pytest.mark.parametrize("how", ["bearer", "cookie"])
def test_who_may_release_a_lock(how, call, watchers):
    sent = {"json": {"reason": "its worker is gone", "owner": "x"}, "headers": OURS}
    path = RELEASE.format("page_other")
    codes = {
        who: call(who, "POST", path, how=how, **sent).status_code for who in ("anonymous", "bad", *ROLES)
    }
    # 409: it may, and nobody holds the lock.
    assert codes == {
        "anonymous": 401,
        "bad": 403,
        "viewer": 403,
        "user": 409,
        "admin": 409,
        "only": 403,
        "blind": 409,
    }
    assert call("only", "POST", RELEASE.format("page_only"), how=how, **sent).status_code == 409


OPEN_TO_ALL = {"/health"}  # a load balancer has no login; see health/route.py


def test_every_route_but_health_has_an_authorisation(app):
    from iam_watcher import routes as ours
    from iam_watcher.airflow_internals.page import get_user
    from iam_watcher.ui.access import same_origin

    def calls(dependant):
        return {dependant.call, *(found for inner in dependant.dependencies for found in calls(inner))}

    routes = [route for one in ours.app.routes for route in getattr(one, "routes", None) or [one]]
    assert len(routes) >= 9
    assert {route.path for route in routes} >= OPEN_TO_ALL
    for route in routes:
        if route.path in OPEN_TO_ALL:
            assert (route.methods, route.dependant.dependencies) == ({"GET", "HEAD"}, [])
            assert not [*route.dependant.query_params, *route.dependant.body_params]
            continue
        # As a dependency of the route's decorator, so before anything that the route does.
        checks = [found for inner in route.dependant.dependencies[:1] for found in calls(inner)]
        assert get_user in checks, route.path
        if route.methods & {"POST", "PUT", "PATCH", "DELETE"}:
            names = [inner.call for inner in route.dependant.dependencies]
            assert same_origin in names, route.path
            assert any("action_logging" in call.__qualname__ for call in names), route.path


def test_a_route_without_authorisation_would_be_noticed(app, monkeypatch):
    from iam_watcher.ui import app as page

    monkeypatch.setattr(page.app.router, "routes", list(page.app.routes))

    @page.app.get("/open")
    def open_to_all():
        return {}

    with pytest.raises(AssertionError, match="/open"):
        test_every_route_but_health_has_an_authorisation(app)


@pytest.mark.parametrize("how", ["bearer", "cookie"])
def test_health_is_open_as_airflows_own_is(how, call, watchers):
    for who in ("anonymous", "bad", *ROLES):
        ours = call(who, "GET", "/health", how=how)
        assert ours.status_code in (200, 503)
        assert set(ours.json()) == {"redis", "database", "deployment_id"}
        assert set(ours.json().values()) <= {"healthy", "unhealthy", None}
        assert call(who, "GET", "/../api/v2/monitor/health", how=how).status_code == 200
    assert call("admin", "POST", "/health", headers=OURS).status_code == 405


@pytest.mark.parametrize(
    "headers",
    [{}, {"X-Requested-With": "XMLHttpRequest"}, OURS | {"Sec-Fetch-Site": "same-site"}],
    ids=["no header", "another's header", "another port"],
)
def test_a_post_from_another_origin_is_refused(headers, call, watchers):
    sent = {"reason": "its worker is gone", "owner": "x"}
    refused = call("admin", "POST", RELEASE.format("page_other"), how="cookie", json=sent, headers=headers)
    assert refused.status_code == 403
    assert "X-Requested-With" in refused.text


def test_a_user_sees_the_watchers_that_airflow_lets_them_see(call, watchers):
    seen = {
        who: {row["id"] for row in body(call(who, "GET", "/watchers"))["watchers"]}
        for who in ("admin", "only")
    }
    assert seen["only"] == {"page_only"}
    assert seen["admin"] >= {"page_only", "page_other"}
    changes = body(call("only", "GET", "/changes?after=0"))
    assert set(changes["runs"]) <= {"page_only"}
    assert [row[0] for row in changes["next"]] == ["page_only"]
    assert call("only", "GET", "/watchers/page_only").status_code == 200
    # An admin passes any authorisation: a DAG that is no watcher has to be looked for.
    assert call("admin", "GET", "/watchers/no_such_watcher/runs").status_code == 404
    assert body(call("admin", "GET", "/watchers/no_such_watcher")) == {"none": True}


def test_a_watcher_whose_file_breaks_stays_in_the_list_until_the_file_is_gone(call, watchers, store_dag):
    def seen():
        listed = {
            row["id"]: row.get("broken") for row in body(call("viewer", "GET", "/watchers"))["watchers"]
        }
        coming = {one[0]: one[3] for one in body(call("viewer", "GET", "/changes?after=0"))["next"]}
        one = body(call("viewer", "GET", "/watchers/page_broken"))
        return listed.get("page_broken", "hidden"), coming.get("page_broken", "hidden"), one.get("broken")

    store_dag(watcher("page_broken"))
    assert seen() == (None, 0, None)
    parse_file(watchers, "page_broken", "SyntaxError")
    assert seen() == (True, 1, True)
    store_dag(watcher("page_broken"))
    parse_file(watchers, "page_broken", None)
    assert seen() == (None, 0, None)
    # The file can be loaded again, and the watcher is not in it.
    parse_file(watchers, "page_broken", "SyntaxError")
    parse_file(watchers, "page_broken", None)
    assert seen() == ("hidden", "hidden", None)
    assert body(call("viewer", "GET", "/watchers/page_broken")) == {"none": True}


def test_a_watcher_that_left_its_file_is_not_broken_with_it(call, watchers, store_dag):
    from iam_watcher.airflow_internals.page import DagModel

    def seen():
        rows = body(call("viewer", "GET", "/watchers"))["watchers"]
        return {row["id"]: row["broken"] for row in rows if row["id"].startswith("page_file_")}

    for name in ("left", "stays", "other"):
        store_dag(watcher(f"page_file_{name}"))
    parse_file(watchers, "page_file_stays", None)
    models = {name: watchers.get(DagModel, f"page_file_{name}") for name in ("left", "stays", "other")}
    for name in ("left", "other"):
        models[name].relative_fileloc = models["stays"].relative_fileloc
    # Airflow wrote the other one as it wrote this one: one after the other.
    models["other"].last_parsed_time = models["stays"].last_parsed_time - timedelta(seconds=2)
    models["left"].last_parsed_time = models["stays"].last_parsed_time - timedelta(seconds=30)
    models["left"].is_stale = True
    watchers.commit()
    parse_file(watchers, "page_file_stays", "SyntaxError")
    assert seen() == {"page_file_stays": True, "page_file_other": True}
    assert body(call("viewer", "GET", "/watchers/page_file_left")) == {"none": True}


def test_the_page_offers_no_run_of_a_watcher_whose_file_is_broken(call, watchers, store_dag):
    from iam_watcher.airflow_internals.page import DagModel

    with Watcher("page_broken_undo", schedule=None, lock="page-broken", params={"undo_record": ""}) as dag:
        ReenableUsersOperator(task_id="enable", undo_record="{{ params.undo_record }}")
    store_dag(dag)
    with Watcher("page_broken_dry_run", schedule=None, lock=None) as dag:
        DryRunWatcherOperator(task_id="dry_run", watcher="{{ params.w }}")
    store_dag(dag)
    store_dag(watcher("page_of_broken", lock="page-broken"))
    # Other tests of this process may have stored other DAGs that do it.
    others = DagModel.dag_id.in_(["dry_run_watcher", "page_dry_run"])
    watchers.execute(update(DagModel).where(others).values(is_stale=True))
    watchers.get(DagModel, "page_broken_dry_run").is_paused = False
    watchers.commit()

    def offered():
        found = body(call("admin", "GET", "/watchers/page_of_broken"))["may"]
        asked = {"json": {"conf": {}}, "headers": OURS}
        started = call("admin", "POST", "/watchers/page_of_broken/dry-run", **asked)
        return found["undo"].get("undo", {}).get("dag"), started.status_code == 200

    assert offered() == ("page_broken_undo", True)
    for dag_id in ("page_broken_undo", "page_broken_dry_run"):
        parse_file(watchers, dag_id, "SyntaxError")
    dag_id, is_dry_run_possible = offered()
    assert dag_id != "page_broken_undo"
    assert not is_dry_run_possible


def test_reports_need_the_right_to_xcoms(call, watchers):
    holder = {"key": "clean", "owner": "prod/x/y", "deployment": "prod", "since": None}
    add_run(watchers, "page_other", 9, xcoms={("disable", "return_value"): report()})
    add_run(watchers, "page_other", 8, acquire="skipped", xcoms={("acquire", "holder"): holder})
    for who, shown in (("user", True), ("blind", False)):
        answers = [
            call(who, "GET", path).text
            for path in ("/watchers/page_other/runs", "/watchers", "/changes?after=0")
        ]
        # As a number of its own: the time of a next run can have these digits.
        found = [re.search(r"\b1240\b|prod/x/y", text) for text in answers]
        assert [one is not None for one in found] == [shown] * 3


def test_names_and_reports_of_any_kind_arrive_as_data(call, watchers, redis_client):
    nasty = report(
        table=NASTY, error=NASTY, skipped={NASTY: 3, "x": "y"}, examined="many", examples=[{NASTY: NASTY}, 5]
    )
    add_run(watchers, "page_other", 7, user=NASTY[:80], xcoms={("disable", "return_value"): nasty})
    for number, odd in enumerate(
        ("text", ["list"], {"dry_run": "maybe", "changed": []}, {"dry_run": True, "changed": -1})
    ):
        add_run(watchers, "page_other", 6 - number, xcoms={("disable", "return_value"): odd})
    redis_client.set("clean", NASTY, px=600_000)
    redis_client.hset("{clean}:progress", "disable/-1", NASTY)
    redis_client.hset("{clean}:progress", "x", '{"owner": 1}')
    for path in (
        "/watchers",
        "/watchers/page_other",
        "/watchers/page_other/runs",
        "/changes?after=0",
    ):
        answer = call("user", "GET", path)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        body(answer)
        assert len(answer.content) < 100_000  # with the watchers of other tests
    (row,) = [row for row in body(call("user", "GET", "/watchers"))["watchers"] if row["id"] == "page_other"]
    assert row["lock"]["owner"] == NASTY[:600]
    shown = body(call("user", "GET", "/watchers/page_other/runs?limit=100"))["runs"]
    (run,) = [one for one in shown if len(one.get("user", "")) == 80]
    assert run["user"] == NASTY[:80]
    assert run["reports"]["disable"]["skipped"] == {NASTY[:60]: 3}


def test_no_secret_gets_to_the_page_or_into_the_stored_dag(call, watchers, monkeypatch, redis_server):
    from airflow.models.serialized_dag import SerializedDagModel

    monkeypatch.setenv(
        "AIRFLOW_CONN_LOCKED", f"redis://someone:s3cret-w0rd@{redis_server.host}:{redis_server.port}/0"
    )
    store = watchers
    stored = str(SerializedDagModel.get("page_other", session=store).data)
    assert "lock_facts" in stored
    assert "s3cret" not in stored
    from iam_watcher.ui import app as page

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "servers", page.Servers())
        state = page.servers.look({"clean": ["locked"]})["clean"]
    assert not state.known
    assert "s3cret" not in str(state)
    assert "WRONGPASS" in state.errors[0]


class Request(BaseOperator):
    """Not iam-watcher's, with a template field that has the name of one of iam-watcher's settings."""

    template_fields = ("path", "headers")

    def __init__(self, *, path, headers, **arguments):
        super().__init__(**arguments)
        self.path, self.headers = path, headers


class OwnPurge(PurgeRowsOperator):
    """An operator of a user, with a template field that is not one of iam-watcher's."""

    template_fields = (*PurgeRowsOperator.template_fields, "headers")

    def __init__(self, *, headers, **arguments):
        super().__init__(**arguments)
        self.headers = headers


class OwnCommand(CommandOperator):
    template_fields = ("command", "env", "stdin")


def test_the_settings_have_no_field_that_may_hold_a_secret(call, store_dag, redis_client):
    secret = "hunter2s3cret"  # noqa: S105  not one
    params = {"days": 30, "place": f"s3://me:{secret}@bucket", "token": secret, "who": [secret]}
    purge = {"table": "session", "age_column": "at", "max_share": 0.5}
    with Watcher("page_settings", schedule=None, params=params) as dag:
        BashOperator(task_id="bash", bash_command=f"x {secret}", env={"DB_PASSWORD": secret, "X": secret})
        Request(task_id="request", path=secret, headers={"Authorization": f"Bearer {secret}"})
        OwnCommand(task_id="command", command=f"x {secret}", env={"PASSWORD": secret}, stdin=secret)
        OwnPurge(
            task_id="own",
            headers={"Authorization": f"Bearer {secret}"},
            older_than_days="{{ params.days }}",
            archive="s3://connection@bucket/{{ params.days }}",
            **purge,
        )
        PurgeRowsOperator(task_id="purge", older_than_days=7, archive="{{ params.place }}", **purge)
        ReenableUsersOperator(
            task_id="enable",
            undo_record=f"s3://bucket/{{{{ ds }}}}?X-Amz-Signature={secret}",
            names="{{ params.who }}",
        )
        DryRunWatcherOperator(task_id="dry", watcher=secret)
    store_dag(dag)
    found = call("blind", "GET", "/watchers/page_settings")
    assert secret not in found.text
    shown = {one["task"]: one["values"] for one in body(found)["settings"]}
    assert {task for task, values in shown.items() if values} == {"own", "purge", "enable"}
    share = {"max_share": 0.5}
    assert shown["own"] == {
        "older_than_days": 30,
        "archive": "s3://connection@bucket/{{ params.days }}",
        **share,
    }
    assert shown["purge"] == {"older_than_days": 7, "archive": "***", **share}
    assert shown["enable"] == {"undo_record": "***"}


def test_a_connection_that_cannot_be_used_is_not_shown(call, store_dag, monkeypatch, redis_client):
    from iam_watcher.ui import app as page

    # The password has a slash in it, so Airflow takes a part of it for the name of the database.
    monkeypatch.setenv("AIRFLOW_CONN_LEAKY", "redis://someone/else:hunter2s3cret@host")
    monkeypatch.setattr(page, "servers", page.Servers())
    store_dag(watcher("page_leaky", lock=Lock("leaky", redis_conn_id="leaky")))
    found = call("blind", "GET", "/watchers/page_leaky")
    assert "hunter2s3cret" not in found.text
    (error,) = body(found)["lock"]["errors"]
    assert "'leaky'" in error
    assert "doctor" in error
    sent = {"json": {"reason": "its worker is gone", "owner": "x"}, "headers": OURS}
    refused = call("user", "POST", RELEASE.format("page_leaky"), **sent)
    assert (refused.status_code, "'leaky'" in refused.text) == (409, True)
    assert "hunter2s3cret" not in refused.text


def test_the_lock_is_known_before_the_first_run(call, store_dag, redis_server, redis_client):
    dag = watcher("page_quorum", lock=Lock("three", redis_conn_id=["iam_redis", "nowhere", "elsewhere"]))
    store_dag(dag)
    found = body(call("admin", "GET", "/watchers/page_quorum"))
    assert found["lock_facts"]["key"] == "three"
    assert found["lock_facts"]["redis_conn_ids"] == ["iam_redis", "nowhere", "elsewhere"]
    assert found["lock_facts"]["wait"] == timedelta(seconds=5).total_seconds()
    # Two of its three servers can't be asked: the page says so, and the rest stands.
    assert found["lock"]["unknown"] is True
    assert len(found["lock"]["errors"]) == 2
    assert found["schedule"]["words"] == "every day"
    assert len(found["schedule"]["ticks"]) == 10


def test_a_tilde_of_a_schedule_and_its_value(call, store_dag, redis_client):
    with Watcher("page_splay", schedule="@daily~") as dag:
        EmptyOperator(task_id="work")
    store_dag(dag)
    found = body(call("admin", "GET", "/watchers/page_splay"))["schedule"]
    expected = parse("@daily~", dag_id="page_splay")
    assert (found["spec"], found["values"]) == ("@daily~", str(expected))
    assert found["words"] == describe(expected)
    assert datetime.fromtimestamp(found["ticks"][0][0], UTC) == expected.next(datetime.now(UTC))
    store_dag(watcher("page_plain_schedule"))
    assert "values" not in body(call("admin", "GET", "/watchers/page_plain_schedule"))["schedule"]


def test_a_file_that_changes_before_its_first_run_is_read_again(call, store_dag, redis_client):
    for key in ("before", "after"):
        store_dag(watcher("page_edited", lock=key))
        assert body(call("viewer", "GET", "/watchers/page_edited"))["key"] == key


def test_a_forced_release_frees_what_the_person_saw_and_is_in_the_audit_log(call, watchers, redis_client):
    from airflow.models.log import Log

    redis_client.set("clean", "other/dag/run", px=600_000)
    path = RELEASE.format("page_other")

    def release(owner):
        return call("user", "POST", path, json={"reason": "its worker is gone", "owner": owner}, headers=OURS)

    assert release("who/was/there before").status_code == 409
    assert redis_client.get("clean") == b"other/dag/run"
    assert body(release("other/dag/run")) == {"released": "other/dag/run"}
    assert redis_client.get("clean") is None
    found = body(call("viewer", "GET", "/watchers/page_other"))
    assert [(one["by"], one["reason"]) for one in found["history"]] == [("user", "its worker is gone")]
    logged = watchers.scalars(select(Log).where(Log.event == "iam_watcher_force_release")).all()
    assert {(entry.dag_id, entry.owner) for entry in logged} >= {("page_other", "user")}
    assert "its worker is gone" in logged[-1].extra
    assert call("user", "POST", path, json={"reason": " ", "owner": "x"}, headers=OURS).status_code == 422


def test_a_running_watcher_tells_how_far_it_is(call, watchers, redis_client):
    from iam_watcher.lock.lease import Lease

    run_id = add_run(watchers, "page_only", 0.1, "running")
    lease = Lease(redis_client, "iam-watcher:page_only", f"test/page_only/{run_id}", ttl=60)
    assert lease.acquire()
    other = Lease(redis_client, "iam-watcher:page_only", "other/dag/run", ttl=60)
    other.queue(2_000_000_000)
    facts = {"examined": 380, "changed": 40, "rows_per_second": 10.5, "share": 0.38, "eta_seconds": 62}
    facts |= {"owner": f"test/page_only/{run_id}", "task": "disable/-1", "table": "user"}
    facts |= dict.fromkeys(("began", "updated"), "2027-03-10T08:00:01+00:00")
    redis_client.hset("{iam-watcher:page_only}:progress", "disable/-1", json.dumps(facts))
    changes = body(call("only", "GET", "/changes?after=100000"))
    assert [run["state"] for run in changes["runs"]["page_only"]] == ["running"]
    lock = changes["locks"]["page_only"]
    assert (lock["waiters"], lock["owner"]) == (1, f"test/page_only/{run_id}")
    (task,) = lock["tasks"]
    assert (task["share"], task["examined"], task["left"], task["rate"]) == (0.38, 380, 62, 10)
    waiting = body(call("only", "GET", "/watchers/page_only"))["waiting"]
    assert [one["owner"] for one in waiting] == ["other/dag/run"]


@pytest.mark.parametrize("path", ["/watchers", "/changes?after=0"])
def test_two_queries_and_one_pipeline_answer_however_many_watchers_there_are(
    path, call, watchers, redis_client, monkeypatch
):
    from airflow import settings
    from redis import Redis
    from sqlalchemy import event

    call("viewer", "GET", path)  # facts of stored DAGs are read once
    statements, pipelines = [], []

    def seen(connection, cursor, statement, *more):
        statements.append(statement)

    pipeline = Redis.pipeline
    monkeypatch.setattr(
        Redis, "pipeline", lambda self, **given: pipelines.append(self) or pipeline(self, **given)
    )
    event.listen(settings.engine, "before_cursor_execute", seen)
    try:
        body(call("viewer", "GET", path))
    finally:
        event.remove(settings.engine, "before_cursor_execute", seen)
    ours = [one for one in statements if "dag_tag" in one or "FROM dag_run" in one]
    assert len(ours) == 2
    # The others are Airflow's own: which DAGs this user may see, and which change.
    assert len(statements) <= 2 + 2 * 2
    assert len(pipelines) == 1


def test_failed_and_skipped_runs_of_a_day_are_counted_beyond_the_bars(call, store_dag, redis_client):
    from airflow.utils.session import create_session

    store_dag(watcher("page_busy"))
    past = (NOW - datetime.now(UTC)) / timedelta(hours=1)
    with create_session() as session:
        for number, outcome in enumerate(["failed", "skipped", "failed", "success"] * 12):
            facts = {"acquire": "skipped"} if outcome == "skipped" else {}
            state = "failed" if outcome == "failed" else "success"
            add_run(session, "page_busy", past + 25.2 - number / 2, state, **facts)
    busy = next(
        one for one in body(call("viewer", "GET", "/watchers"))["watchers"] if one["id"] == "page_busy"
    )
    assert len(busy["bars"]["s"]) == 29
    # Of 48 runs the last 30 are bars, and the first three are older than a day.
    assert busy["earlier"] == {"failed": 7, "skipped": 4}


def row_of(call, dag_id, who="viewer"):
    """Return the row of a watcher in the list."""
    return next(one for one in body(call(who, "GET", "/watchers"))["watchers"] if one["id"] == dag_id)


def test_a_failure_is_sent_whole_after_dry_runs_and_skips(call, store_dag, watchers, redis_client):
    limit = {"eligible": 2800, "max_share": 0.4, "changed": 0, "error": "SafetyLimitError: too many"}
    stopped = {("disable", "return_value"): report(**limit)}
    dry = {("disable", "return_value"): report(dry_run=True, changed=0)}
    store_dag(watcher("page_failed"))
    add_run(watchers, "page_failed", 90, xcoms={("disable", "return_value"): report()})
    add_run(watchers, "page_failed", 80, "failed", xcoms=stopped)
    for hours, facts in ((70, {"xcoms": dry}), (60, {"acquire": "skipped"}), (50, {"xcoms": dry})):
        add_run(watchers, "page_failed", hours, **facts)
        newest, failed = row_of(call, "page_failed")["runs"]
        assert failed["state"] == "failed"
        assert failed["failed"] == "disable"
        assert failed["reports"]["disable"]["max_share"] == 0.4
        assert newest["after"] == int((NOW - timedelta(hours=hours)).timestamp())
    found = row_of(call, "page_failed")
    assert found["bars"]["s"] == "sdk"
    # A dry run that fails is sent, too, and the next dry run makes only that good.
    add_run(watchers, "page_failed", 40, "failed", xcoms=dry)
    add_run(watchers, "page_failed", 30, acquire="skipped")
    states = [(run["state"], run.get("dry")) for run in row_of(call, "page_failed")["runs"]]
    assert states == [("skipped", None), ("failed", True), ("failed", None)]
    add_run(watchers, "page_failed", 20, xcoms=dry)
    assert [run["after"] for run in row_of(call, "page_failed")["runs"]][1] == failed["after"]
    add_run(watchers, "page_failed", 10)
    found = row_of(call, "page_failed")
    assert ([run["state"] for run in found["runs"]], found["bars"]["s"]) == (["success"], "sfdkdfkd")


def test_the_bars_count_the_rows_of_earlier_tries(call, store_dag, watchers, redis_client):
    store_dag(watcher("page_resumed"))
    for hours, facts in ((40, {"changed_before": 300}), (30, {}), (20, {"changed": 0, "changed_before": 5})):
        add_run(watchers, "page_resumed", hours, xcoms={("disable", "return_value"): report(**facts)})
    for hours in (15, 10):
        add_run(watchers, "page_resumed", hours)
    assert row_of(call, "page_resumed")["bars"]["r"] == [1540, 1240, 5, None]


def test_a_skip_tells_that_another_deployment_did_the_scheduled_time(call, store_dag, watchers, redis_client):
    holder = {"key": "clean", "owner": "prod/x/y", "deployment": "prod", "since": None}
    store_dag(watcher("page_standby"))
    for hours in range(9, 3, -1):
        wrote = holder | ({"done": True} if hours % 2 else {})
        add_run(watchers, "page_standby", hours, acquire="skipped", xcoms={("acquire", "holder"): wrote})
    add_run(watchers, "page_standby", 3, xcoms={("acquire", "holder"): None})
    found = row_of(call, "page_standby")
    assert found["bars"]["s"] == "ekekek"
    runs = body(call("viewer", "GET", "/watchers/page_standby/runs"))["runs"]
    assert [run.get("elsewhere") for run in runs] == [None, None, True, None, True, None, True]
    # It is among what a run wrote.
    assert row_of(call, "page_standby", "blind")["bars"]["s"] == "k" * 6


@pytest.mark.parametrize(("name", "lock"), [("page_off", {}), ("page_off_unlocked", {"lock": None})])
def test_a_run_whose_tasks_were_all_skipped_did_nothing(call, store_dag, watchers, redis_client, name, lock):
    from airflow.models.taskinstance import TaskInstance

    store_dag(watcher(name, **lock))
    newest = [add_run(watchers, name, hours) for hours in (4, 3, 2)][-1]
    off = (
        (TaskInstance.dag_id == name) & (TaskInstance.run_id == newest) & (TaskInstance.task_id == "disable")
    )
    watchers.execute(update(TaskInstance).where(off).values(state="skipped"))
    watchers.commit()
    runs = body(call("viewer", "GET", f"/watchers/{name}/runs"))["runs"]
    assert [(run["state"], run.get("nothing")) for run in runs] == [
        ("success", True),
        ("success", None),
        ("success", None),
    ]
    assert row_of(call, name)["runs"][0]["nothing"] is True


def test_the_last_runs_are_found_whatever_their_names(call, store_dag, redis_client):
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunType

    store_dag(watcher("page_named"))
    with create_session() as session:
        for number in range(70):
            at = NOW - timedelta(hours=100 - number)
            kind = [*DagRunType][number % len(DagRunType)]
            name = kind.generate_run_id(suffix=at.isoformat())
            name = f"by-hand-{number}" if number % 5 == 0 else name
            add_run(session, "page_named", 100 - number, run_id=name)
    found = body(call("viewer", "GET", "/watchers"))["watchers"]
    (named,) = [one for one in found if one["id"] == "page_named"]
    assert named["bars"]["t"][1:] == [3600] * 28
    assert named["runs"][0]["after"] == int((NOW - timedelta(hours=31)).timestamp())


def test_a_long_past_costs_an_answer_nothing(call, watchers, redis_client):
    """Airflow keeps runs for years. SQLite counts its steps, which are the same on each machine."""
    from airflow import settings
    from airflow.models.dagrun import DagRun
    from sqlalchemy import event, func, insert

    counts, connections = [], []

    def seen(connection, *more):
        connections.append(connection.connection.dbapi_connection)
        connections[-1].set_progress_handler(lambda: counts.append(1), 100)

    def cost(path):
        call("viewer", "GET", path)  # facts of stored DAGs are read once
        counts.clear()
        event.listen(settings.engine, "before_cursor_execute", seen)
        try:
            body(call("viewer", "GET", path))
        finally:
            event.remove(settings.engine, "before_cursor_execute", seen)
            for connection in connections:
                connection.set_progress_handler(None, 0)
            connections.clear()
        return len(counts)

    past = (NOW - datetime.now(UTC)) / timedelta(hours=1)
    for number in range(40):
        add_run(watchers, "page_other", past + 100 + number)
    table = DagRun.__table__
    columns = [column for column in table.columns if column.name != "id"]
    (one,) = watchers.execute(select(*columns).where(table.c.dag_id == "page_other").limit(1))

    def go_back(first, last):
        runs = []
        for number in range(first, last):
            at = NOW - timedelta(hours=past + 200 + number)
            name = f"scheduled__{at.isoformat()}"
            runs.append({**one._mapping, "run_id": name, "logical_date": at, "run_after": at})
        watchers.execute(insert(table), runs)
        watchers.commit()

    go_back(0, 1_500)
    newest = watchers.scalar(select(func.max(table.c.id)))
    paths = ("/watchers", f"/changes?after={newest + 4_000}")
    before = {path: cost(path) for path in paths}
    go_back(1_500, 5_500)
    after = {path: cost(path) for path in paths}
    assert all(after[path] <= before[path] * 1.3 for path in paths), (before, after)


def test_the_page_works_behind_a_prefix(app, call, watchers, monkeypatch):
    monkeypatch.setattr(app, "root_path", "/air/flow")
    # A proxy keeps the prefix, as Airflow asks for.
    monkeypatch.setattr("tests.dags.test_page_routes.PREFIX", f"/air/flow{PREFIX}")
    assert call("viewer", "GET", "/watchers").status_code == 200
    assert call("anonymous", "GET", "/watchers").status_code == 401
    plugins = call("admin", "GET", "/../api/v2/plugins").json()["plugins"]
    (ours,) = [plugin for plugin in plugins if plugin["name"] == "iam_watcher"]
    assert {view["bundle_url"] for view in ours["react_apps"]} == {"iam-watcher/page/watchers.js"}


def test_a_run_is_undone_by_the_watcher_with_its_lock(call, store_dag, redis_client):
    """Each account table has its own."""
    for name in ("django", "iam"):
        store_dag(watcher(f"page_disable_{name}", lock=f"page-{name}"))
        # The names put them in another order than the watchers whose runs they undo.
        order = {"django": "z", "iam": "a"}[name]
        params = {"undo_record": ""}
        with Watcher(f"page_{order}_enable", schedule=None, lock=f"page-{name}", params=params) as dag:
            ReenableUsersOperator(task_id="enable", undo_record="{{ params.undo_record }}")
        store_dag(dag)
    for name, dag_id in (("django", "page_z_enable"), ("iam", "page_a_enable")):
        undo = body(call("admin", "GET", f"/watchers/page_disable_{name}"))["may"]["undo"]["undo"]
        assert (undo["dag"], undo["param"]) == (dag_id, "undo_record")


def test_dag_ids_outside_of_ascii(call, store_dag, redis_client):
    store_dag(watcher("page_清理"))
    found = body(call("viewer", "GET", f"/watchers/{quote('page_清理')}"))
    assert found["key"] == "iam-watcher:page_清理"
    assert PerDagAuthManager.visible == "page_only"
