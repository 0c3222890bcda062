"""The wheel: what is in it, and what an Airflow has that installs it.

All tests share one wheel and its installation, which take a minute to make: hence the length.
"""

from __future__ import annotations

import email
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from dev.airflow import ROOT, environment
from iam_watcher import __version__

PLUGINS = ROOT / "plugins"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WATCHERS = {path.stem for path in (ROOT / "dags").glob("*.py")}
# --verbose: without it, the command hides the errors that Airflow's components log.
LIST_PLUGINS = ("plugins", "--output", "json", "--verbose")

# Prints, as JSON, where every module of the package was imported from.
IMPORT_ALL = """
import importlib, json, pkgutil
import iam_watcher
names = ["iam_watcher", *(m.name for m in pkgutil.walk_packages(iam_watcher.__path__, "iam_watcher."))]
skipped = [n for n in names if n.startswith("iam_watcher.example_dags") or n.endswith("__main__")]
print(json.dumps({n: importlib.import_module(n).__file__ for n in names if n not in skipped}))
"""

# Prints, as JSON, what the DAG files in a folder define after a serialization round trip.
PARSE = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
bag = DagBag(sys.argv[1])
assert not bag.import_errors, bag.import_errors
dags = {i: DagSerialization.from_dict(DagSerialization.to_dict(d)) for i, d in bag.dags.items()}
print(json.dumps({i: [type(d.timetable).__module__, sorted(d.task_dict)] for i, d in dags.items()}))
"""


# Makes a task by the decorator that the package adds to Airflow's own.
DECORATE = """
from airflow.sdk import DAG, task
with DAG("orders", schedule=None) as dag:
    @task.process_rows("orders", state_column="status", claim="pending", done="normal", failed="failed")
    def send(row): ...
    send()
print(type(dag.get_task("send")).__name__)
"""


class Installation:
    """An Airflow's Python environment and its home, with an empty plugins folder."""

    def __init__(self, python: Path, home: Path) -> None:
        self.python = python
        self.home = home
        self.plugins = home / "plugins"
        self.plugins.mkdir(parents=True)

    def run(self, *arguments: str, **options: str) -> subprocess.CompletedProcess[str]:
        """Run `python <arguments>` in it; `options` are variables that win over dev/airflow.py's."""
        env = environment(
            self.home,
            deployment_id="test",
            options={"AIRFLOW__CORE__PLUGINS_FOLDER": str(self.plugins), **options},
        )
        for name in ("PYTHONPATH", "AIRFLOW__IAM_WATCHER__SETTINGS_FILE"):
            env.pop(name, None)
        done = subprocess.run(
            [str(self.python), *arguments],
            env=env,
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def airflow(self, *arguments: str, **options: str) -> subprocess.CompletedProcess[str]:
        """Run `airflow <arguments>` in it."""
        return self.run("-m", "airflow", *arguments, **options)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, as `pip wheel . --no-deps` builds it; with the pinned hatchling instead of a download."""
    folder = tmp_path_factory.mktemp("wheel")
    _pip("wheel", str(ROOT), "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder))
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installation(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The wheel in an environment of its own, which sees the packages of .venv without a copy."""
    folder = tmp_path_factory.mktemp("installation")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "venv")}))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    _pip("--python", str(python), "install", "--no-deps", "--no-index", str(wheel))
    return Installation(python, folder / "home")


def _pip(*arguments: str) -> str:
    """Run this environment's pip and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments],
        cwd=ROOT,
        env={**os.environ, "PIP_CONSTRAINT": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _plugins(done):
    """Return the plugins that `airflow plugins --output json` listed."""
    return json.loads(done.stdout[done.stdout.index("[{") :])


def test_it_holds_the_package_and_nothing_else(wheel):
    package = {
        str(path.relative_to(PLUGINS))
        for path in (PLUGINS / "iam_watcher").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    examples = {f"iam_watcher/example_dags/{name}.py" for name in WATCHERS}
    info = f"airflow_iam_watcher-{__version__}.dist-info"
    about = {
        f"{info}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    }
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        for name in WATCHERS:
            source = ROOT / "dags" / f"{name}.py"
            assert archive.read(f"iam_watcher/example_dags/{name}.py") == source.read_bytes()
    assert sorted(names) == sorted(package | examples | {"iam_watcher/example_dags/iam-watcher.yaml"} | about)


def test_it_asks_for_what_the_project_says(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    asked = {Requirement(line) for line in metadata.get_all("Requires-Dist")}
    assert asked == {Requirement(line) for line in PROJECT["dependencies"]}
    assert metadata["License-Expression"] == "MIT"


def test_airflow_loads_the_plugin_once_without_an_error(installation):
    done = installation.airflow(*LIST_PLUGINS)
    (plugin,) = [plugin for plugin in _plugins(done) if plugin["name"] == "iam_watcher"]
    assert plugin["source"].startswith(f"airflow-iam-watcher=={__version__}")
    assert plugin["timetables"]
    assert "error" not in done.stderr.lower()


def test_every_module_imports_from_the_wheel(installation):
    files = json.loads(installation.run("-c", IMPORT_ALL).stdout.splitlines()[-1])
    assert {"iam_watcher.watcher_dag", "iam_watcher.plugin", "iam_watcher.jobs.purge_rows"} <= files.keys()
    environment = installation.python.parent.parent
    assert all(Path(file).is_relative_to(environment) for file in files.values()), files


def test_the_watchers_in_it_are_dags_once_copied(installation, tmp_path):
    (package,) = installation.python.parent.parent.glob("lib/*/site-packages/iam_watcher")
    for path in (package / "example_dags").glob("*.py"):
        shutil.copy(path, tmp_path)
    dags = json.loads(installation.run("-c", PARSE, str(tmp_path)).stdout.splitlines()[-1])
    assert dags.keys() == WATCHERS
    for dag_id, (timetable, tasks) in dags.items():
        # The undo DAGs have no schedule, and an asset starts provision_users.
        assert timetable.startswith(
            ("iam_watcher.timetables", "airflow.timetables.simple", "airflow.timetables.assets")
        )
        if dag_id != "dry_run_watcher":  # it starts dry runs of the others, without a lock
            assert {"acquire", "release"} < set(tasks)


def test_airflow_has_our_task_decorator(installation):
    assert installation.run("-c", DECORATE).stdout.splitlines()[-1] == "ProcessRowsOperator"


def test_airflow_has_our_commands(installation):
    printed = installation.airflow(
        "iam-watcher", "schedule", "@daily", "--count", "1", "--after", "2027-01-01"
    )
    assert printed.stdout.splitlines()[-1] == "Sat 2027-01-02 00:00:00 +00:00 UTC"


def test_airflow_describes_our_options(installation):
    listed = installation.airflow(
        "config", "list", "--section", "iam_watcher", "--include-descriptions"
    ).stdout
    assert "Settings of iam-watcher for this Airflow." in listed
    for option in ("deployment_id", "settings_file", "archive"):
        assert f"{option} = " in listed
    assert "part of the owner of each lock" in listed


def test_the_description_names_all_our_options_and_their_defaults():
    from iam_watcher.provider_info import get_provider_info

    options = get_provider_info()["config"]["iam_watcher"]["options"]
    texts = [path.read_text() for path in (PLUGINS / "iam_watcher").rglob("*.py")]
    used = {name for text in texts for name in re.findall(r'conf\.get\(\s*"iam_watcher",\s*"(\w+)"', text)}
    assert options.keys() == used
    defaults = {name: option["default"] for name, option in options.items() if option["default"]}
    assert defaults == {"standby_delay": "0"}


class TestTheFolder:
    """The other way: the same package from Airflow's plugins folder, without an installation."""

    def test_alone_it_is_the_same_plugin(self, tmp_path):
        folder = Installation(Path(sys.executable), tmp_path / "home")
        done = folder.airflow(*LIST_PLUGINS, AIRFLOW__CORE__PLUGINS_FOLDER=str(PLUGINS))
        (plugin,) = [plugin for plugin in _plugins(done) if plugin["name"] == "iam_watcher"]
        assert plugin["source"] == "$PLUGINS_FOLDER/iam_watcher_plugin.py"
        assert "error" not in done.stderr.lower()

    def test_beside_the_wheel_it_says_which_two_and_what_to_do(self, installation):
        done = installation.airflow(*LIST_PLUGINS, AIRFLOW__CORE__PLUGINS_FOLDER=str(PLUGINS))
        (plugin,) = [plugin for plugin in _plugins(done) if plugin["name"] == "iam_watcher"]
        assert plugin["source"].startswith("airflow-iam-watcher==")
        (message,) = [line for line in done.stderr.splitlines() if "InstalledTwice" in line and ":" in line]
        assert str(installation.python.parent.parent) in message
        assert str(PLUGINS) in message
        assert "pip uninstall airflow-iam-watcher" in message
        assert "already registered" not in done.stderr


@pytest.mark.e2e
def test_in_a_clean_environment(wheel, tmp_path):
    """Everything downloaded anew, at the pinned versions; then the cluster's packages, and an S3 for them."""
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    _pip("--python", str(python), "install", "--constraint", "constraints.txt", str(wheel))
    clean = Installation(python, tmp_path / "home")
    done = clean.airflow(*LIST_PLUGINS)
    assert [plugin["name"] for plugin in _plugins(done)].count("iam_watcher") == 1
    assert "error" not in done.stderr.lower()

    _add(python, "constraints-cluster.txt", "cluster")
    _check_what_the_cluster_asks_of_celery(clean)

    _pip("--python", str(python), "install", "--constraint", "constraints-cluster.txt", "--group", "test")
    _add(python, "constraints-s3.txt", "s3")
    clean.run(str(Path(__file__).with_name("archive_on_s3.py")), str(ROOT))


def _add(python, constraints, group):
    """Install a dependency group and what it needs: nothing that constraints files don't pin.

    The group's file has exactly what constraints.txt has not; that one has the packages of the tests as well.
    """
    before = set(_pip("--python", str(python), "freeze").splitlines())
    _pip("--python", str(python), "install", "--constraint", constraints, "--group", group)
    _pip("--python", str(python), "check")
    added = set(_pip("--python", str(python), "freeze").splitlines()) - before
    assert added - _pinned("constraints.txt") == _pinned(constraints)


def _pinned(constraints):
    return {line for line in (ROOT / constraints).read_text().splitlines() if "==" in line}


def _check_what_the_cluster_asks_of_celery(clean):
    """Its command, its options and its health check exist in the provider."""
    compose = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
    worker = compose["services"]["worker"]
    clean.airflow(*worker["command"], "--help")
    described = clean.airflow("config", "list", "--include-env-vars").stdout
    for name in worker["environment"]:
        if name.startswith("AIRFLOW__CELERY"):
            assert f"# Variable: {name}\n" in described
    check = shlex.split(worker["healthcheck"]["test"][1].partition("--destination")[0])
    assert check[0] == "celery"
    clean.run("-m", *check, "--help")
