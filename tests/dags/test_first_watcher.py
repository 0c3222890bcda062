"""docs/examples/first-watcher: the project that a user copies."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag

from dev.servers import Redis as Server
from iam_watcher.doctor.redis_server import check_redis
from tests.dags.runs import states, xcom

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.models.dagrun import DagRun
    from redis import Redis

    from dev.servers import DatabaseServer

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "docs" / "examples" / "first-watcher"
DAG_FILE = PROJECT / "dags" / "clean_old_sessions.py"
COMPOSE = yaml.safe_load((PROJECT / "compose.yaml").read_text())


def test_its_own_tests_pass() -> None:
    (file,) = (PROJECT / "tests").glob("test_*.py")
    tests = [value for name, value in runpy.run_path(str(file)).items() if name.startswith("test_")]
    assert tests
    for test in tests:
        test()


@pytest.fixture
def shop(mariadb: DatabaseServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> DatabaseServer:
    """The database of the project, with the account that its connection names."""
    with closing(mariadb.connect(database="")) as connection, connection.cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS shop")
    mariadb.run_script(PROJECT / "database" / "shop.sql")
    environment = COMPOSE["services"]["airflow"]["environment"]
    uri = environment["AIRFLOW_CONN_SHOP_DB"].replace("mariadb:3306", f"{mariadb.host}:{mariadb.port}")
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", uri)
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__ARCHIVE", f"file://{tmp_path}/archive")
    return mariadb


def test_it_deletes_the_old_sessions_once_it_is_no_dry_run(
    run_dag: Callable[..., DagRun], redis_client: Redis, shop: DatabaseServer, tmp_path: Path
) -> None:
    def sessions() -> int:
        with closing(shop.connect("shop")) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM session")
            return int(cursor.fetchone()[0])

    run = run_dag(DagBag(str(DAG_FILE)).dags["clean_old_sessions"])
    assert states(run)["run"] == "success"
    assert (xcom(run, "purge")["matched"], sessions()) == (3, 6)

    real = tmp_path / "clean_old_sessions.py"
    real.write_text(re.sub(r".*dry_run=True.*\n", "", DAG_FILE.read_text()))
    run = run_dag(DagBag(str(real)).dags["clean_old_sessions"])
    assert states(run)["run"] == "success"
    assert (xcom(run, "purge")["changed"], sessions()) == (3, 3)


def test_its_redis_keeps_the_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = COMPOSE["services"]["redis"]
    assert [mount.partition(":")[2] for mount in service["volumes"]] == ["/data"]  # where Redis writes
    with Server(tmp_path, service["command"][1:]) as server:
        monkeypatch.setenv("AIRFLOW_CONN_IAM_REDIS", server.airflow_uri)
        assert list(check_redis("iam_redis")) == []


def test_the_compose_file_is_valid_and_its_paths_exist() -> None:
    check = Path(sys.executable).with_name("check-jsonschema")
    subprocess.run([check, "--builtin-schema", "vendor.compose-spec", PROJECT / "compose.yaml"], check=True)
    mounts = [mount for service in COMPOSE["services"].values() for mount in service.get("volumes", ())]
    sources = {mount.partition(":")[0] for mount in mounts}
    assert {source for source in sources if source.startswith("./") and (PROJECT / source).is_dir()} | set(
        COMPOSE["volumes"]
    ) == sources


def test_the_archive_outlives_its_container() -> None:
    airflow = COMPOSE["services"]["airflow"]
    folder = airflow["environment"]["AIRFLOW__IAM_WATCHER__ARCHIVE"].removeprefix("file://")
    assert f"archive:{folder}" in airflow["volumes"]
    assert f"\nRUN mkdir --mode=0700 {folder}\n" in (PROJECT / "Dockerfile").read_text()


def test_its_images_are_those_of_the_cluster() -> None:
    cluster = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
    for name in ("mariadb", "redis"):
        assert COMPOSE["services"][name]["image"] == cluster[name]["image"]
    (base,) = re.findall(r"^ARG AIRFLOW_IMAGE=(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert f"FROM {base}\n" in (PROJECT / "Dockerfile").read_text()


def test_its_page_names_the_files_that_are_there() -> None:
    page = (PROJECT / "README.md").read_text()
    named = {
        name
        for row in re.findall(r"^\| (`.+?`) \|", page, re.MULTILINE)
        for name in re.findall(r"`(.+?)`", row)
    }
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "."],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert named == set(listed) - {"README.md"}
