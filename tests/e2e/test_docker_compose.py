"""docker-compose.yaml, started: by the file, the Dockerfile and a .env made as .env.example says.

The base images are stand-ins (dev/compose/images.py). The tests share the services, which take minutes to
start, and run in this order: hence the length. The example project's compose file runs after them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.error import HTTPError

import pytest

from dev.expectations import differences, snapshot
from dev.processes import listening
from tests.e2e.compose_stack import PATIENCE, Stack
from tests.e2e.deployments import until

pytestmark = pytest.mark.e2e
WATCHERS = ("disable_inactive_users", "clean_policy_audit", "clean_expired_secrets", "provision_users")
SERVICES = {"api-server", "scheduler", "dag-processor", "triggerer", "worker", "postgres", "redis", "mariadb"}
TASKS = 12  # of one run; a worker runs four at once
MANY = f"""
'''An Airflow DAG whose tasks wait until three workers have one.'''
import socket
import time

from airflow.sdk import dag, task


@dag(schedule=None, max_active_tasks={TASKS})
def many():
    @task
    def wait(number):
        time.sleep(20)
        return socket.gethostname()

    wait.expand(number=list(range({TASKS})))


many()
"""


def _state_of_the_machine():
    """Return what an engine may leave behind: network devices, cgroups, mounts, folders."""
    return {
        "devices": {path.name for path in Path("/sys/class/net").iterdir()},
        "cgroups": {str(path) for path in Path("/sys/fs/cgroup").glob("*/*") if path.is_dir()},
        "mounts": {line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()},
        "folders": {
            str(path) for name in ("/etc", "/opt", "/run", "/var/lib") for path in Path(name).iterdir()
        },
        "forwarding": Path("/proc/sys/net/ipv4/ip_forward").read_text(),
    }


@pytest.fixture(scope="module")
def machine():
    return _state_of_the_machine()


@pytest.fixture(scope="module")
def stack(tmp_path_factory, machine):
    stack = Stack(tmp_path_factory.mktemp("compose") / "stack")
    try:
        (stack.root / "dags" / "many.py").write_text(MANY)
        stack.build()
        stack.start_engine(own_network=True)
        stack.up()
        yield stack
    finally:
        if stack.folder.exists():
            stack.remove()


@pytest.fixture(scope="module")
def before(stack):
    """The sample rows before the first run."""
    return snapshot(stack)


def _run(stack, dag_id):
    """Run a watcher once and return its tasks."""
    stack.unpause(dag_id)
    run_id = stack.trigger(dag_id)
    assert stack.finish(dag_id, run_id) == "success"
    return stack.tasks(dag_id, run_id)


def test_every_service_is_healthy_and_init_has_ended(stack):
    states = {container["Service"]: container for container in stack.containers()}
    assert states.keys() == SERVICES | {"init"}
    assert stack.unhealthy() == []
    assert {name for name, state in states.items() if state["State"] == "running"} == SERVICES
    # `init` waited for a PostgreSQL that other containers reach: its first try was its last.
    assert (states["init"]["State"], states["init"]["ExitCode"]) == ("exited", 0)


def test_the_admin_logs_in_with_the_password_of_env(stack):
    stack.log_in()
    assert stack.api("/dags/disable_inactive_users")["is_paused"]
    with pytest.raises(HTTPError) as refused:
        stack.call("/auth/token", {"username": "admin", "password": "wrong"})
    assert refused.value.code == 401
    refused.value.close()


def test_the_page_answers(stack):
    stack.log_in()
    assert b"<title>" in stack.call("/")
    listed = json.loads(stack.call("/iam-watcher/watchers"))
    assert {row["id"] for row in listed["watchers"]} >= set(WATCHERS)


def test_the_watchers_do_their_work_on_the_sample_rows(stack, before):
    for dag_id in WATCHERS:
        states = {task["task_id"]: task["state"] for task in _run(stack, dag_id)}
        assert set(states.values()) == {"success"}, (dag_id, states)
    assert differences(before, snapshot(stack)) == []


def test_undo_record_and_archive_are_on_the_volume(stack):
    files = stack.archived()
    assert any("disable_inactive_users" in line for line in files), files
    assert any("clean_policy_audit" in line for line in files), files
    access = stack.compose("exec", "-T", "worker", "stat", "--format", "%a %U", "/opt/airflow/archive")
    assert access.split() == ["700", "airflow"]


def _built(stack, project):
    """Return the images that Compose built for a project, with those that have lost their name."""
    label = f"label=com.docker.compose.project={project}"
    return stack.engine.docker("images", "--quiet", "--filter", label).stdout.split()


@pytest.mark.parametrize("options", [(), ("--build",)])
def test_up_builds_the_image_once_where_there_is_none(stack, options):
    assert len(_built(stack, "iam-watcher")) == 1
    # The same services under another name, with an image that is not there yet.
    project, image = "new-machine", "airflow-iam-watcher-new"
    folder = stack.folder / project
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text("FROM airflow-iam-watcher\n")
    airflow = SERVICES - {"postgres", "redis", "mariadb"} | {"init"}
    services = {name: {"image": image} for name in airflow}
    services["init"]["build"] = str(folder)
    (folder / "override.json").write_text(json.dumps({"services": services}))
    override = str(folder / "override.json")
    here = ("--project-name", project, "--file", "docker-compose.yaml", "--file", override)
    assert _built(stack, project) == []
    stack.compose(*here, "up", "--no-start", *options)
    assert len(_built(stack, project)) == 1
    assert set(stack.compose(*here, "ps", "--all", "--services").split()) == SERVICES | {"init"}
    stack.compose(*here, "down", "--volumes")
    stack.engine.docker("image", "rm", image)


def test_the_doctor_compares_the_containers(stack):
    hosts, printed = [], ""
    for service in ("scheduler", "triggerer", "worker"):
        hosts.append(stack.compose("exec", "-T", service, "bash", "-c", "echo $HOSTNAME").strip())
        command = ("--env", "PYTHONPATH=plugins", service, "python", "-m", "iam_watcher.doctor")
        printed = stack.compose("exec", "-T", *command)
    assert [host for host in hosts[:-1] if f"machine {host}: good" not in printed] == [], printed
    # It has not run there.
    assert "(dag-processor) could not be compared" in printed


def test_three_workers_share_the_work(stack):
    stack.up("--scale", "worker=3")
    assert [container["Service"] for container in stack.containers()].count("worker") == 3
    tasks = _run(stack, "many")
    assert len({task["hostname"] for task in tasks}) == 3
    stack.up("--scale", "worker=1")


def _kept(stack):
    """Return what a restart must keep: rows, runs, files, keys."""
    runs = {
        (run["dag_id"], run["dag_run_id"], run["state"])
        for run in stack.api("/dags/~/dagRuns?limit=100")["dag_runs"]
        if run["dag_id"] in {*WATCHERS, "many"}
    }
    assert runs
    return snapshot(stack), runs, stack.archived(), _redis(stack, "get", "kept")


def _redis(stack, *command):
    """Run a command in the database of the locks."""
    return stack.compose("exec", "-T", "redis", "redis-cli", "-n", "0", *command).strip()


def test_a_restart_of_each_service_loses_nothing(stack):
    for dag_id in WATCHERS:
        stack.api(f"/dags/{dag_id}", {"is_paused": True}, "PATCH")
    _redis(stack, "set", "kept", "yes")
    kept = _kept(stack)
    assert kept[-1] == "yes"
    for service in sorted(SERVICES):
        stack.compose("restart", service)
        until(lambda: not stack.unhealthy(), f"healthy after a restart of {service}", PATIENCE)
        assert _kept(stack) == kept, service
    states = {task["state"] for task in _run(stack, "clean_expired_secrets")}
    assert states == {"success"}


def test_down_and_up_again_keeps_the_data(stack):
    stack.api("/dags/clean_expired_secrets", {"is_paused": True}, "PATCH")
    kept = _kept(stack)
    stack.compose("down")
    assert stack.containers() == []
    stack.up()
    assert stack.unhealthy() == []
    assert _kept(stack) == kept
    assert {task["state"] for task in _run(stack, "clean_policy_audit")} == {"success"}


def test_no_secret_is_in_an_image_or_a_log(stack):
    secrets = {name: value for name, value in stack.secrets.items() if name != "IAM_WATCHER_DEPLOYMENT_ID"}
    assert len(secrets) == 8
    images = set(stack.compose("config", "--images").split())
    assert len(images) == 4
    texts = {"logs": stack.compose("logs", "--no-color")}
    for image in images:
        history = stack.engine.docker("history", "--no-trunc", image).stdout
        texts[image] = history + stack.engine.docker("image", "inspect", image).stdout
    texts["task logs"] = stack.compose("exec", "-T", "worker", "bash", "-c", "cat $(find logs -type f)")
    assert all(len(text) > 1000 for text in texts.values())
    assert [
        (place, name) for place, text in texts.items() for name, value in secrets.items() if value in text
    ] == []


def test_the_example_project_runs_as_its_page_says(stack):
    stack.compose("down")  # it has the same port
    page = (stack.example / "README.md").read_text()
    up, logs, run, listing = re.findall(r"`docker compose (.+?)`", page)

    def compose(command, *more):
        arguments = [*command.replace("exec", "exec -T").split(), *more]
        return stack.engine.docker("compose", *arguments, folder=stack.example).stdout

    def sessions():
        query = "--execute=SELECT COUNT(*) FROM session"
        client = ("mariadb", "--user=watcher", "--password=watcher", "--skip-column-names", "shop", query)
        return int(compose("exec mariadb", *client))

    compose(up.replace("--build", "--no-build"))
    until(lambda: "Password for user 'admin'" in compose(logs), "the password of admin", PATIENCE)
    assert sessions() == 6
    compose(run)
    assert "clean_old_sessions" in compose(listing)
    assert sessions() == 6
    (dag_file,) = (stack.example / "dags").glob("*.py")
    dag_file.write_text(re.sub(r".*dry_run=True.*\n", "", dag_file.read_text()))
    compose(run)
    assert sessions() == 3
    compose("down --volumes")


def test_nothing_is_left_on_the_machine(stack, machine):
    assert not listening(8080)  # the engine's network is not the machine's
    stack.remove()
    assert _state_of_the_machine() == machine
    assert not stack.folder.exists()
