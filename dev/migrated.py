"""Each test's Airflow gets a copy of one migrated metadata database: a migration takes seconds of CPU."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

from dev.airflow import DATABASE, ROOT, Airflow

_KEPT = ROOT / ".run" / f"migrated-airflow-{version('apache-airflow-core')}.db"


def copy_migrated(home: Path) -> None:
    """Put the database into an AIRFLOW_HOME; a checkout's first call makes it by `airflow db migrate`."""
    _KEPT.parent.mkdir(exist_ok=True)
    with _KEPT.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _KEPT.exists():
            _make()
    shutil.copy(_KEPT, home / DATABASE)


def _make() -> None:
    with tempfile.TemporaryDirectory(dir=_KEPT.parent) as folder:
        airflow = Airflow(Path(folder), deployment_id="none")
        airflow.run("db", "migrate")
        (airflow.home / DATABASE).replace(_KEPT)
