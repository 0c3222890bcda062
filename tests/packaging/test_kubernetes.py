"""The values for Airflow's Helm chart, held to all that can be checked without a Kubernetes cluster."""

from __future__ import annotations

import re
import textwrap
from pathlib import PurePosixPath

import pytest
import yaml

from dev.airflow import ROOT
from dev.cluster.settings import cluster_settings

FOLDER = ROOT / "docs" / "kubernetes"
EXECUTORS = {"celery": "CeleryExecutor", "kubernetes": "KubernetesExecutor"}

# The keys that we use, of the chart's values.schema.json between chart 1.18.0 and 1.19.0 (for Airflow 3.0.5).
# `*` is a name that the chart leaves to its user.
SCHEMA = {
    "airflowVersion": (str,),
    "apiSecretKeySecretName": (str,),
    "apiServer.replicas": (int,),
    "config.*.*": (bool, int, float, str),
    "dagProcessor.replicas": (int,),
    "data.brokerUrlSecretName": (str,),
    "data.metadataSecretName": (str,),
    "executor": (str,),
    "fernetKeySecretName": (str,),
    "images.airflow.repository": (str,),
    "images.airflow.tag": (str,),
    "jwtSecretName": (str,),
    "postgresql.enabled": (bool,),
    "redis.enabled": (bool,),
    "scheduler.replicas": (int,),
    "secret[].envName": (str,),
    "secret[].secretKey": (str,),
    "secret[].secretName": (str,),
    "triggerer.replicas": (int,),
    "workers.replicas": (int,),
    "workers.terminationGracePeriodSeconds": (int,),
}

# Settings of cluster.env that an executor has otherwise or not at all.
OF_CELERY = ("AIRFLOW__CELERY__", "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__")
OTHERWISE = {
    "kubernetes": {"AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "600"},  # a pod needs longer than a message
    "celery": {},
}
# Beside them: what differs from one deployment to the next, and what docker-compose.yaml has too.
MORE = {
    "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION",
    "AIRFLOW__CORE__LOAD_EXAMPLES",
    "AIRFLOW__IAM_WATCHER__ARCHIVE",
    "AIRFLOW__IAM_WATCHER__DEPLOYMENT_ID",
    "AIRFLOW__IAM_WATCHER__SETTINGS_FILE",
    "AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER",
    "AIRFLOW__LOGGING__REMOTE_LOG_CONN_ID",
    "AIRFLOW__LOGGING__REMOTE_LOGGING",
}


def merged(under, over):
    """Return the values of two files as helm merges them."""
    if not (isinstance(under, dict) and isinstance(over, dict)):
        return over
    return under | {key: merged(under[key], value) if key in under else value for key, value in over.items()}


def block(language, begin):
    """Return the code block of docs/deploy.md that begins with this text."""
    page = (ROOT / "docs" / "deploy.md").read_text()
    found = re.findall(rf"^ *```{language}\n( *{begin}.*?)^ *```$", page, re.MULTILINE | re.DOTALL)
    (text,) = found
    return textwrap.dedent(text)


def read(name):
    return yaml.safe_load((FOLDER / name).read_text())


def leaves(node, path=""):
    """Yield each value with its path."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for value in node:
            yield from leaves(value, f"{path}[]")
    else:
        yield path, node


@pytest.fixture(params=EXECUTORS)
def executor(request):
    return request.param


@pytest.fixture
def values(executor):
    return merged(read("values.yaml"), read(f"values-{executor}.yaml"))


@pytest.fixture
def settings(values):
    """The settings as variables, in the form of cluster.env."""
    return {
        f"AIRFLOW__{section}__{option}".upper(): str(value)
        for section, options in values["config"].items()
        for option, value in options.items()
    }


def test_the_chart_has_each_key_and_takes_its_value(values):
    for path, value in leaves(values):
        general = re.sub(r"^config\.\w+\.\w+$", "config.*.*", path)
        assert type(value) in SCHEMA[general], path


def test_each_key_of_the_list_is_in_use():
    used = {path for name in FOLDER.glob("*.yaml") for path, _ in leaves(read(name.name))}
    assert {re.sub(r"^config\.\w+\.\w+$", "config.*.*", path) for path in used} == SCHEMA.keys()


def test_the_executor(values, executor):
    assert values["executor"] == EXECUTORS[executor]
    assert ("brokerUrlSecretName" in values["data"]) == (executor == "celery")


def test_the_settings_are_those_of_the_cluster(settings, executor):
    expected = {
        name: value
        for name, value in cluster_settings().items()
        if executor == "celery" or not name.startswith(OF_CELERY)
    }
    assert settings.keys() == expected.keys() | MORE
    assert {name: settings[name] for name in expected} == expected | OTHERWISE[executor]


def test_each_section_of_a_setting_is_where_airflow_looks_for_it(settings):
    from airflow.configuration import conf

    known = {
        f"AIRFLOW__{section}__{option}".upper()
        for section, facts in conf.configuration_description.items()
        for option in facts["options"]
    }
    ours = {name for name in settings if name.startswith(("AIRFLOW__IAM_WATCHER__", OF_CELERY[1]))}
    celery = {name for name in settings if name.startswith(OF_CELERY[0])}  # of a provider that is not here
    assert settings.keys() - ours - celery <= known


def test_the_files_have_no_secret_and_name_each_connection(values):
    text = "".join(path.read_text() for path in FOLDER.glob("*.yaml"))
    assert not re.search(r"://[^\s/@]+:[^\s/@]+@", text)
    named = {one["envName"].removeprefix("AIRFLOW_CONN_").lower() for one in values["secret"]}
    assert named == {"iam_mysql", "iam_redis", values["config"]["logging"]["remote_log_conn_id"]}
    assert values["config"]["iam_watcher"]["archive"].startswith("s3://archive@")


def test_the_page_makes_each_secret_with_its_keys(values):
    commands = block("sh", "kubectl create namespace").replace("\\\n", " ").splitlines()
    made = {
        name: set(re.findall(r"--from-literal=([\w-]+)=", command))
        for command in commands
        for name in re.findall(r"create secret generic ([\w-]+)", command)
    }
    wanted = {
        values["data"]["metadataSecretName"]: {"connection"},
        values["fernetKeySecretName"]: {"fernet-key"},
        values["apiSecretKeySecretName"]: {"api-secret-key"},
        values["jwtSecretName"]: {"jwt-secret"},
        values["secret"][0]["secretName"]: {one["secretKey"] for one in values["secret"]},
    }
    if "brokerUrlSecretName" in values["data"]:
        wanted[values["data"]["brokerUrlSecretName"]] = {"connection"}
    assert wanted.items() <= made.items()
    assert made.keys() <= wanted.keys() | {"airflow-broker"}


def test_the_image_of_the_page_has_what_the_values_name(values):
    dockerfile = block("dockerfile", "FROM")
    assert dockerfile.startswith(f"FROM apache/airflow:{values['airflowVersion']}-")
    copied = dict(re.findall(r"^COPY (\S+)/ (\S+)/$", dockerfile, re.MULTILINE))
    file = PurePosixPath(values["config"]["iam_watcher"]["settings_file"])
    assert copied["include"] == str(file.parent)
    assert (ROOT / "include" / file.name).is_file()
    assert copied["dags"] == "/opt/airflow/dags"
