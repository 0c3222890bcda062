"""Options of [iam_watcher] that nothing reads: the doctor reports them, with the name that is meant."""

from __future__ import annotations

from configparser import ConfigParser

import pytest

from iam_watcher.doctor import configuration
from iam_watcher.provider_info import get_provider_info

KNOWN = get_provider_info()["config"]["iam_watcher"]["options"]


@pytest.fixture
def file(monkeypatch: pytest.MonkeyPatch) -> ConfigParser:
    """What Airflow's configuration file has."""
    found = ConfigParser()
    found.read_dict({"core": {"archiv": "x"}, "iam_watcher": dict.fromkeys(KNOWN, "hunter22")})
    monkeypatch.setattr(configuration, "conf", found)
    return found


def findings() -> list[str]:
    return [str(one) for one in configuration.check_options()]


def test_all_known_options(file: ConfigParser, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KNOWN:
        monkeypatch.setenv(f"AIRFLOW__IAM_WATCHER__{name.upper()}", "x")
    for other in ("AIRFLOW_CONN_IAM_MYSQL", "AIRFLOW_VAR_IAM_WATCHER_FINGERPRINT", "IAM_WATCHER_DATABASE"):
        monkeypatch.setenv(other, "x")
    # As Kubernetes names them for a service.
    for other in ("AIRFLOW_IAM_WATCHER_IMAGE", "AIRFLOW_IAM_WATCHER_API_SERVER_SERVICE_HOST"):
        monkeypatch.setenv(other, "x")
    assert findings() == []
    file.remove_section("iam_watcher")
    assert findings() == []


@pytest.mark.parametrize(
    ("variable", "right"),
    [
        ("AIRFLOW__IAM_WATCHER__ARCHIV", "ARCHIVE"),
        ("AIRFLOW__IAM_WATCHER__archive", "ARCHIVE"),
        ("AIRFLOW__IAM_WATCHER__ARCHIVE_CMD", "ARCHIVE"),
        ("AIRFLOW__IAM_WATCHER__SETTING_FILE", "SETTINGS_FILE"),
        ("AIRFLOW__IAM_WATCHER__NOTIFIY", "NOTIFY"),
        ("AIRFLOW__IAM_WATCHERS__ARCHIVE", "ARCHIVE"),
        ("AIRFLOW__IAMWATCHER__PING", "PING"),
        ("AIRFLOW_IAM_WATCHER__DEPLOYMENT_ID", "DEPLOYMENT_ID"),
        ("AIRFLOW__IAM_WATCHER_ARCHIVE", "ARCHIVE"),
        ("airflow__iam_watcher__standby_delay", "STANDBY_DELAY"),
    ],
)
@pytest.mark.usefixtures("file")
def test_a_variable_that_nothing_reads(variable: str, right: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "hunter22")
    assert findings() == [
        (
            f"WRONG: The variable {variable} is not known, and nothing reads it. Write "
            f"AIRFLOW__IAM_WATCHER__{right} instead, or remove it"
        )
    ]


@pytest.mark.usefixtures("file")
def test_a_variable_that_is_like_no_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__X", "hunter22")
    (found,) = findings()
    for name in KNOWN:
        assert f"AIRFLOW__IAM_WATCHER__{name.upper()}" in found


def test_an_option_of_the_file_that_nothing_reads(file: ConfigParser) -> None:
    file.set("iam_watcher", "archiv", "hunter22")
    assert findings() == [
        (
            "WRONG: Airflow's configuration file has the option [iam_watcher] archiv, which is not known. "
            "Nothing reads it. Write archive instead, or remove it"
        )
    ]


@pytest.mark.parametrize(
    "section", ["iam-watcher", "iamwatcher", "iam_watchers", "IAM_WATCHER", "iam.watcher"]
)
def test_a_section_of_the_file_that_nothing_reads(file: ConfigParser, section: str) -> None:
    file.read_dict({section: {"archive": "hunter22"}})
    assert findings() == [
        (
            f"WRONG: Airflow's configuration file has the section [{section}], which nothing reads. Write "
            "[iam_watcher] instead"
        )
    ]
