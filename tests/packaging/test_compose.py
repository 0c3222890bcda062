"""docker-compose.yaml and what belongs to it, held to all that can be checked without a Docker engine.

The files of the cluster are read and interpolated once for all tests: hence the length.
"""

from __future__ import annotations

import ast
import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest
import yaml

from dev.airflow import COMPONENTS, ROOT, Airflow
from dev.cluster.settings import cluster_settings
from dev.servers import MariaDB, Redis

# A variable, ${NAME}, ${NAME:-default} or ${NAME:?message}, that has no other one inside; not $${NAME}.
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?::([-?])([^${}]*))?\}")
IMAGE = "airflow-iam-watcher"
AIRFLOW_HOME = PurePosixPath("/opt/airflow")  # of Airflow's image

# Variables of `make run` that a cluster sets otherwise, or doesn't need.
OTHERWISE = {
    "AIRFLOW_HOME": "the image sets it",
    "AIRFLOW__API__BASE_URL": "the port is free to choose",
    "AIRFLOW__API__HOST": "a container listens on its own network",
    "AIRFLOW__API__PORT": "the default, in a network of its own",
    "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "a person unpauses what writes to their database",
    "AIRFLOW__CORE__DAGS_FOLDER": "the default",
    "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": "the API server is another host",
    "AIRFLOW__CORE__EXECUTOR": "Celery: this is what a cluster is",
    "AIRFLOW__CORE__PARALLELISM": "the workers' concurrency is the limit",
    "AIRFLOW__CORE__PLUGINS_FOLDER": "the default",
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": "another path",
    "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": "the default: the dags folder",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "PostgreSQL",
    "AIRFLOW__IAM_WATCHER__ARCHIVE": "a volume",
    "AIRFLOW__IAM_WATCHER__DEPLOYMENT_ID": "another deployment",
    "AIRFLOW__IAM_WATCHER__SETTINGS_FILE": "another path",
    "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "PostgreSQL keeps an API server waiting for less time",
}
SECRET = {"AIRFLOW__API__SECRET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__CORE__FERNET_KEY"}
# Beside those of cluster.env.
ONLY_IN_A_CLUSTER = {"AIRFLOW__CELERY__BROKER_URL", "AIRFLOW__CELERY__RESULT_BACKEND"}


class MissingError(Exception):
    """A variable that compose demands has no value."""


def _interpolate(node, variables):
    """Return the node of a parsed file with its variables put in, as compose does."""
    if isinstance(node, dict):
        return {key: _interpolate(value, variables) for key, value in node.items()}
    if isinstance(node, list):
        return [_interpolate(value, variables) for value in node]
    if not isinstance(node, str):
        return node

    def value(match):
        name, sign, text = match.groups()
        if variables.get(name):
            return variables[name]
        if sign == "-":
            return text
        raise MissingError(f"{name}: {text}")

    while VARIABLE.search(node):
        node = VARIABLE.sub(value, node)
    return node.replace("$$", "$")


def _read():
    """Return the parsed file, with each service's env_file in its environment, as compose does it."""
    compose = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
    for service in compose["services"].values():
        if file := service.get("env_file"):
            assert file == "cluster.env"
            service["environment"] = {**cluster_settings(), **service["environment"]}
    return compose


@pytest.fixture(scope="module")
def dotenv():
    """The variables of a .env made as .env.example says, by that very command."""
    text = (ROOT / ".env.example").read_text()
    (command,) = re.findall(r"^#   (awk .+) >\.env$", text, re.MULTILINE)
    made = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return dict(line.split("=", 1) for line in made.splitlines() if re.match(r"\w+=", line))


@pytest.fixture(scope="module")
def compose(dotenv):
    return _interpolate(_read(), dotenv)


@pytest.fixture(scope="module")
def services(compose):
    return compose["services"]


@pytest.fixture(scope="module")
def cluster(services):
    """The environment of Airflow's components."""
    return services["scheduler"]["environment"]


@pytest.fixture(scope="module")
def ours(services):
    """The services that run Airflow."""
    return {name: service for name, service in services.items() if service["image"] == IMAGE}


def test_it_is_valid_by_the_compose_specification():
    subprocess.run(
        [
            Path(sys.executable).with_name("check-jsonschema"),
            "--builtin-schema",
            "vendor.compose-spec",
            ROOT / "docker-compose.yaml",
        ],
        check=True,
    )


def test_it_has_every_component_of_airflow(ours, services):
    assert ours.keys() == {*COMPONENTS, "worker", "init"}
    assert services.keys() - ours.keys() == {"postgres", "redis", "mariadb"}


class TestSecrets:
    def test_the_example_has_just_the_variables_that_compose_reads(self):
        text = (ROOT / "docker-compose.yaml").read_text()
        read = set(re.findall(r"(?<!\$)\$\{(\w+)", text))
        given = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
        assert read == given

    def test_the_example_and_git_hold_none(self, dotenv):
        text = (ROOT / ".env.example").read_text()
        values = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
        assert {name for name, value in values.items() if value} == {"IAM_WATCHER_DEPLOYMENT_ID"}
        subprocess.run(["git", "check-ignore", "--quiet", ".env"], cwd=ROOT, check=True)
        assert "!.env" not in (ROOT / ".dockerignore").read_text()

    def test_the_command_in_the_example_fills_each_with_another_value(self, dotenv):
        secrets = [value for name, value in dotenv.items() if name != "IAM_WATCHER_DEPLOYMENT_ID"]
        assert len(set(secrets)) == len(secrets) == 8
        assert all(re.fullmatch(r"[\w=-]{44,}", value) for value in secrets)
        assert len(base64.urlsafe_b64decode(dotenv["AIRFLOW_FERNET_KEY"])) == 32
        assert len(dotenv["AIRFLOW_JWT_SECRET"]) >= 64  # what HMAC with SHA-512 asks for

    def test_each_missing_one_stops_compose_with_its_name(self, dotenv):
        for name in dotenv:
            for without in ({**dotenv, name: ""}, {key: dotenv[key] for key in dotenv if key != name}):
                with pytest.raises(MissingError, match=rf"^{name}: is missing, see .env.example$"):
                    _interpolate(_read(), without)

    def test_the_admin_has_a_password(self, services, ours, dotenv, tmp_path):
        server = services["api-server"]
        (tmp_path / "airflow").write_text("#!/bin/sh\necho started $*\n")
        (tmp_path / "airflow").chmod(0o755)
        file = tmp_path / "passwords.json"
        done = subprocess.run(
            server["command"],
            env={
                **server["environment"],
                "PATH": f"{tmp_path}:{os.environ['PATH']}",
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(file),
            },
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "started api-server\n"
        user, _role = server["environment"]["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"].split(":")
        assert json.loads(file.read_text()) == {user: dotenv["AIRFLOW_ADMIN_PASSWORD"]}
        assert file.stat().st_mode & 0o777 == 0o600
        # No other component has it.
        assert [name for name in ours if "AIRFLOW_ADMIN_PASSWORD" in ours[name]["environment"]] == [
            "api-server"
        ]


class TestTheSameAsMakeRun:
    @pytest.fixture
    def run(self, tmp_path):
        """The environment that `make run` gives to Airflow."""
        options = {"AIRFLOW__IAM_WATCHER__ARCHIVE": tmp_path.as_uri()}
        airflow = Airflow(tmp_path, deployment_id="run", options=options)
        return {name: value for name, value in airflow.env.items() if name.startswith("AIRFLOW_")}

    def test_settings(self, run, cluster):
        plain = {name: text for name, text in cluster.items() if not name.startswith("AIRFLOW_CONN_")}
        assert plain.keys() - run.keys() == {*ONLY_IN_A_CLUSTER, *cluster_settings()} - run.keys()
        assert run.keys() - plain.keys() <= OTHERWISE.keys()
        both = run.keys() & plain.keys()
        assert {name for name in both if run[name] != plain[name]} == both & (OTHERWISE.keys() | SECRET)

    def test_connections(self, cluster, tmp_path):
        from airflow.models.connection import Connection

        # The call that sets them: airflow.connect(iam_mysql=…, iam_redis=…).
        (call,) = [
            node
            for node in ast.walk(ast.parse((ROOT / "dev" / "run.py").read_text()))
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "connect"
            and node.keywords
        ]
        uris = {"iam_mysql": MariaDB(tmp_path).airflow_uri, "iam_redis": Redis(tmp_path).airflow_uri}
        assert {keyword.arg for keyword in call.keywords} == uris.keys()
        prefix = "AIRFLOW_CONN_"
        in_cluster = {name[len(prefix) :].lower() for name in cluster if name.startswith(prefix)}
        assert in_cluster == uris.keys()
        for name, uri in uris.items():
            here, there = Connection(uri=uri), Connection(uri=cluster[prefix + name.upper()])
            for part in ("conn_type", "login", "schema", "extra_dejson"):
                assert getattr(here, part) == getattr(there, part), (name, part)
            assert here.password
            assert there.password

    def test_versions(self):
        pinned = dict(re.findall(r"^([\w.-]+)==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
        (image,) = re.findall(r"^ARG AIRFLOW_IMAGE=(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
        (python,) = re.findall(r"\(Python (\S+)\)", (ROOT / "constraints.txt").read_text())
        assert image == f"apache/airflow:slim-{pinned['apache-airflow']}-python{python}"

    def test_sql(self, services):
        mounts = dict(
            volume.split(":")[1::-1] for volume in services["mariadb"]["volumes"] if volume.startswith("./")
        )
        assert [mounts[target] for target in sorted(mounts)] == [
            f"./include/sql/{name}.sql" for name in ("schema", "grants", "sample")
        ]
        assert {str(PurePosixPath(target).parent) for target in mounts} == {"/docker-entrypoint-initdb.d"}
        assert services["mariadb"]["environment"]["MARIADB_USER"] == MariaDB.user
        assert "MARIADB_DATABASE" not in services["mariadb"]["environment"]


class TestSettings:
    def test_each_has_a_reason_in_the_file(self):
        lines = (ROOT / "cluster.env").read_text().splitlines()
        groups = re.split(r"\n(?=#)", "\n".join(lines[3:]).strip())
        assert all(group.startswith("#") for group in groups)

    def test_the_page_has_each_with_its_default_and_its_value(self):
        from airflow.configuration import conf

        text = (ROOT / "docs" / "operate.md").read_text()
        rows = re.findall(r"^\| `\[(\w+)\] (\w+)` \| (\S+) \| (\S+) \| .+ \|$", text, re.MULTILINE)
        here = {f"AIRFLOW__{section}__{option}".upper(): value for section, option, _, value in rows}
        assert here == cluster_settings()
        for section, option, default, _ in rows:
            # Celery's come with its provider, which is not installed here.
            if not section.startswith("celery"):
                assert (
                    float(conf.configuration_description[section]["options"][option]["default"])
                    == float(default)
                    if default[0].isdecimal()
                    else default == "False"
                )


class TestNames:
    def test_every_option_exists_in_airflow(self, ours):
        from airflow.configuration import conf

        from iam_watcher.provider_info import get_provider_info

        known = {**conf.configuration_description, **get_provider_info()["config"]}
        names = {name for service in ours.values() for name in service["environment"]}
        texts = [(ROOT / name).read_text() for name in ("Dockerfile", ".env.example", "docs/deploy.md")]
        names |= set(re.findall(r"AIRFLOW__\w+__\w+", "".join(texts)))
        options = [name.split("__")[1:] for name in names if name.startswith("AIRFLOW__")]
        # Celery's come with its provider, which is not installed here: see test_wheel.py.
        options = [(section, option) for section, option in options if not section.startswith("CELERY")]
        assert len(options) > 15
        for section, option in options:
            assert option.lower() in known[section.lower()]["options"], (section, option)

    def test_every_command_exists_in_airflow(self, ours):
        from airflow.cli.cli_parser import get_parser

        checks = [service["healthcheck"]["test"] for service in ours.values() if "healthcheck" in service]
        shell = [words[1].replace('"', "") for words in checks if words[0] == "CMD-SHELL"]
        commands = [service["command"] for service in ours.values()]
        # Of the words that a shell runs, those that replace it.
        commands = [
            words[-1].rpartition("exec airflow ")[2].split() if words[0] == "bash" else words
            for words in commands
        ]
        commands += [text.split()[1:] for text in shell if text.startswith("airflow ")]
        assert len(commands) == 8
        for command in commands:
            # Celery's come with its provider, which is not installed here: see test_wheel.py.
            if command[0] != "celery":
                get_parser().parse_args(command)

    def test_every_job_that_is_checked_is_that_of_its_service(self, ours):
        from airflow.jobs.dag_processor_job_runner import DagProcessorJobRunner
        from airflow.jobs.triggerer_job_runner import TriggererJobRunner

        for name, runner in {"dag-processor": DagProcessorJobRunner, "triggerer": TriggererJobRunner}.items():
            assert f"--job-type {runner.job_type} " in ours[name]["healthcheck"]["test"][1]

    def test_every_checked_address_exists_in_airflow(self, ours):
        from airflow.api_fastapi import core_api
        from airflow.configuration import conf

        (api,) = re.findall(r"localhost:(\d+)(\S+)", ours["api-server"]["healthcheck"]["test"][-1])
        paths = yaml.safe_load(
            (Path(core_api.__file__).parent / "openapi" / "v2-rest-api-generated.yaml").read_text()
        )["paths"]
        assert api[0] == conf.configuration_description["api"]["options"]["port"]["default"]
        assert "get" in paths[api[1]]
        (port,) = re.findall(r"localhost:(\d+)/health$", ours["scheduler"]["healthcheck"]["test"][-1])
        assert port == conf.get("scheduler", "scheduler_health_check_server_port")


class TestPaths:
    def test_every_mounted_path_exists(self, compose):
        for service in compose["services"].values():
            for volume in service["volumes"]:
                source, _, target = volume.partition(":")
                assert target.startswith("/")
                if source.startswith("."):
                    assert (ROOT / source).exists(), source
                    assert target.endswith(":ro"), volume
                else:
                    assert source in compose["volumes"]
        assert compose["volumes"].keys() == {"archive", "logs", "mariadb", "postgres", "redis"}

    def test_airflow_finds_our_folders_where_it_looks(self, ours, cluster):
        for service in ours.values():
            mounts = dict(volume.split(":")[:2] for volume in service["volumes"])
            for name in ("dags", "plugins", "include", "archive", "logs"):
                source = name if name in {"archive", "logs"} else f"./{name}"
                assert mounts[source] == str(AIRFLOW_HOME / name)
        inside = PurePosixPath(cluster["AIRFLOW__IAM_WATCHER__SETTINGS_FILE"]).relative_to(AIRFLOW_HOME)
        assert (ROOT / inside).is_file()
        assert cluster["AIRFLOW__IAM_WATCHER__ARCHIVE"] == f"file://{AIRFLOW_HOME}/archive"

    def test_what_the_image_copies_exists_and_reaches_it(self):
        lines = (ROOT / "Dockerfile").read_text().splitlines()
        copied = {name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]}
        ignore = (ROOT / ".dockerignore").read_text().splitlines()
        allowed = {line[1:] for line in ignore if line.startswith("!")}
        assert "*" in ignore
        assert copied == allowed
        assert all((ROOT / name).is_file() for name in copied)

    def test_pip_needs_no_more_than_what_the_image_copies(self, tmp_path):
        image = (ROOT / "Dockerfile").read_text().rpartition("\nFROM ")[2]
        for line in re.findall(r"^COPY (.+)$", image, re.MULTILINE):
            *names, folder = line.split()
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            for name in names:
                shutil.copy(ROOT / name, tmp_path / folder)
        # The Dockerfile's command; everything is installed here already, so nothing is downloaded.
        options = [
            "--dry-run",
            "--no-index",
            "--no-build-isolation",
            "--constraint",
            "constraints-cluster.txt",
        ]
        done = subprocess.run(
            [sys.executable, "-m", "pip", "install", *options, "--only-deps", "."],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "Would install" not in done.stdout

    def test_nothing_is_open_to_other_machines(self, services):
        ports = [port for service in services.values() for port in service.get("ports", [])]
        assert ports == ["127.0.0.1:8080:8080"]


class TestOrder:
    def test_each_service_waits_for_what_it_needs_by_health(self, services, ours):
        for name, service in services.items():
            assert ("healthcheck" in service) == (name != "init")
            for needed, how in service.get("depends_on", {}).items():
                condition = "service_completed_successfully" if needed == "init" else "service_healthy"
                assert how == {"condition": condition}, (name, needed)
        for name in ours.keys() - {"init"}:
            assert {"init", "mariadb", "redis"} <= ours[name]["depends_on"].keys()
        assert "api-server" in services["worker"]["depends_on"]
        assert services["init"]["depends_on"].keys() == {"postgres"}

    def test_the_image_is_built_once_by_a_service_that_all_others_wait_for(self, services, ours):
        # Else Compose builds the image once for each service, or looks for it in a registry.
        assert {name: service["build"] for name, service in services.items() if "build" in service} == {
            "init": "."
        }
        assert {service["pull_policy"] for service in ours.values()} == {"never"}
        for name in ours.keys() - {"init"}:
            assert "init" in services[name]["depends_on"], name

    def test_only_init_may_end(self, services):
        assert {name: service["restart"] for name, service in services.items()} == {
            name: "no" if name == "init" else "unless-stopped" for name in services
        }

    def test_images_of_others_have_exact_tags(self, services, ours):
        for name in services.keys() - ours.keys():
            assert re.fullmatch(r"\w+:\d+\.\d+(\.\d+)?(-\w+)?", services[name]["image"])


def test_queue_and_locks_are_in_two_databases_of_one_redis(compose, cluster):
    from airflow.models.connection import Connection

    queue, locks = cluster["AIRFLOW__CELERY__BROKER_URL"], Connection(uri=cluster["AIRFLOW_CONN_IAM_REDIS"])
    assert f"{locks.host}:{locks.port}" in queue
    assert int(locks.extra_dejson["db"]) != int(queue.rpartition("/")[2])
    assert "maxmemory-policy noeviction" in compose["configs"]["redis"]["content"].splitlines()


def test_a_redis_starts_with_that_file(compose, tmp_path, dotenv):
    file = tmp_path / "cluster.conf"
    file.write_text(compose["configs"]["redis"]["content"])
    server = Redis(tmp_path / "redis", ["--include", str(file)])
    server.password = dotenv["REDIS_PASSWORD"]
    with server, server.client() as client:
        assert client.config_get("*")["requirepass"] == dotenv["REDIS_PASSWORD"]
        assert client.config_get("appendonly") == {"appendonly": "yes"}
