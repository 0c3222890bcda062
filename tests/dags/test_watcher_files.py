"""DAG files with Watchers: what Airflow shows a person who put them into dags/."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from airflow.dag_processing.dagbag import DagBag

if TYPE_CHECKING:
    from pathlib import Path

HEAD = (
    '"""An Airflow DAG of a test."""\nfrom airflow.providers.standard.operators.empty import EmptyOperator\n'
)
HEAD += "from iam_watcher import Watcher\n"


def errors_of(tmp_path: Path, *files: str) -> str:
    """Return what Airflow shows a person who put these files into dags/."""
    for number, text in enumerate(files):
        (tmp_path / f"file{number}.py").write_text(HEAD + text)
    return "\n".join(DagBag(str(tmp_path)).import_errors.values())


@pytest.mark.parametrize("spec", ["@every 1x", "@every", "60 * * * *", "", "@every -1d", "nonsense"])
def test_a_bad_schedule_is_an_import_error_that_names_it(tmp_path: Path, spec: str) -> None:
    shown = errors_of(tmp_path, f'with Watcher("bad", schedule={spec!r}):\n    EmptyOperator(task_id="x")\n')
    assert "The schedule is not valid" in shown
    assert repr(spec) in shown


FACTORY = '''"""Tools of ours."""
from airflow.providers.standard.operators.empty import EmptyOperator
from iam_watcher import Watcher

def make(name):
    """A Watcher of our factory."""
    with Watcher(name, schedule=None) as dag:
        EmptyOperator(task_id="x")
    return dag
'''


@pytest.mark.parametrize(
    ("head", "doc"),
    [
        ('"""An Airflow DAG from a factory."""', "An Airflow DAG from a factory."),
        ("", "A Watcher of our factory."),
    ],
)
def test_the_text_of_a_watcher_from_a_factory(tmp_path: Path, monkeypatch, head: str, doc: str) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "dags").mkdir()
    (tmp_path / "lib" / "shared_factory.py").write_text(FACTORY)
    file = tmp_path / "dags" / "made.py"
    file.write_text(f"{head}\n# airflow dag\nfrom shared_factory import make\nmake('made')\n")
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    bag = DagBag(str(tmp_path / "dags"))
    sys.modules.pop("shared_factory")
    assert bag.import_errors == {}
    assert (bag.dags["made"].doc_md, bag.dags["made"].fileloc) == (doc, str(file))


@pytest.mark.parametrize(
    "line",
    [
        'Watcher("shown", schedule="@every 1x")',
        'Watcher("shown", schedule="@daily", lock="a b")',
        'Watcher("shown", schedule="@daily", tags="abc")',
        'Watcher("shown", schedule="@daily", descripton="x")',
        'Watcher("shown", schedule="@daily", description=5)',
    ],
)
def test_an_import_error_shows_the_line_of_the_file_and_the_watcher(tmp_path: Path, line: str) -> None:
    shown = errors_of(tmp_path, f"dag = {line}\n")
    assert f"dag = {line}" in shown
    assert ": 'shown': " in shown


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ('"purge", older_than_days=-3', "JobArgumentError: 'shown': "),
        ('"purge", older_days=3', "TypeError: 'shown': Invalid arguments were passed"),
        ('"purge", older_than_days=3, retries="x"', "TypeError: 'shown': 'retries' type must be int"),
        ('"a b", older_than_days=3', "ValueError: 'shown': The key 'a b'"),
    ],
)
def test_an_import_error_of_a_task_shows_its_line_and_the_watcher(
    tmp_path: Path, arguments: str, error: str
) -> None:
    body = "from iam_watcher.jobs.purge_rows import PurgeRowsOperator\n"
    body += 'with Watcher("shown", schedule=None):\n'
    body += f'    PurgeRowsOperator(table="t", age_column="endedAt", task_id={arguments})\n'
    shown = errors_of(tmp_path, body)
    assert error in shown
    assert shown.rindex('PurgeRowsOperator(table="t"') > shown.rindex("File ")


def test_an_import_error_of_all_tasks_together_shows_the_line_of_the_watcher(tmp_path: Path) -> None:
    shown = errors_of(
        tmp_path, 'with Watcher("shown", schedule=None):\n    EmptyOperator(task_id="acquire")\n'
    )
    assert '    with Watcher("shown", schedule=None):\n' in shown
    assert "'shown' has a task or task group 'acquire'" in shown


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("iam_watcher", 'lock = Lock("clean", lease=5)'),
        ("iam_watcher", 'lock = Lock("a b")'),
        ("iam_watcher.jobs.throttle", "pace = Pace(target=0.1, duty=7)"),
        ("iam_watcher.jobs.throttle", 'throttle = Throttle(max_threads_running="5")'),
        ("iam_watcher.jobs.announce", 'announcement = Announcement("")'),
    ],
)
def test_an_import_error_before_any_watcher_shows_the_line_of_the_file(
    tmp_path: Path, module: str, line: str
) -> None:
    shown = errors_of(tmp_path, f"from {module} import {line.split()[2].partition('(')[0]}\n{line}\n")
    assert f"    {line}\n" in shown
    assert "expected" in shown


def test_an_import_error_of_the_settings_shows_the_line_of_the_file(tmp_path: Path, monkeypatch) -> None:
    settings = tmp_path / "iam-watcher.yaml"
    settings.write_text("watcher:\n  task:\n    max-inactive-days: -1\n")
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__SETTINGS_FILE", str(settings))
    line = "days = settings.task.max_inactive_days"
    shown = errors_of(tmp_path, f"from iam_watcher import settings\n{line}\n")
    assert f"    {line}\n" in shown
    assert f"{settings}, line 3: watcher.task.max-inactive-days" in shown


def test_an_empty_body(tmp_path: Path) -> None:
    assert "'empty' has no task" in errors_of(tmp_path, 'with Watcher("empty", schedule=None):\n    pass\n')


def test_a_watcher_without_a_with(tmp_path: Path) -> None:
    body = 'dag = Watcher("open", schedule=None)\nEmptyOperator(task_id="x", dag=dag)\n'
    assert "'open' has no `with`" in errors_of(tmp_path, body)


def test_a_task_behind_the_with(tmp_path: Path) -> None:
    body = 'with Watcher("open", schedule=None) as dag:\n    EmptyOperator(task_id="x")\n'
    body += 'EmptyOperator(task_id="y", dag=dag)\n'
    assert "'open': y is outside its `with`, where no lock guards it" in errors_of(tmp_path, body)


def test_a_watcher_in_a_watcher(tmp_path: Path) -> None:
    body = 'with Watcher("a", schedule=None):\n    with Watcher("b", schedule=None):\n        pass\n'
    assert "'b' is inside 'a'" in errors_of(tmp_path, body)


def test_an_id_that_is_used_twice_in_a_file(tmp_path: Path) -> None:
    body = 'with Watcher("twin", schedule=None):\n    EmptyOperator(task_id="x")\n'
    assert "'twin' is defined twice" in errors_of(tmp_path, body + body)


def test_an_id_that_is_used_twice_in_the_folder(tmp_path: Path) -> None:
    body = 'with Watcher("twin", schedule=None):\n    EmptyOperator(task_id="x")\n'
    shown = errors_of(tmp_path, body, body)
    assert "twin" in shown
    assert "file0.py" in shown


def test_several_watchers_in_one_file(tmp_path: Path) -> None:
    body = 'for name in ("one", "two", "three"):\n    with Watcher(name, schedule=None):\n'
    body += '        EmptyOperator(task_id="work")\n'
    (tmp_path / "several.py").write_text(HEAD + body)
    bag = DagBag(str(tmp_path))
    assert bag.import_errors == {}
    assert set(bag.dags) == {"one", "two", "three"}
    assert all(set(dag.task_dict) == {"acquire", "work", "release"} for dag in bag.dags.values())
