"""The plugin: is it loaded, once, and does Airflow know its timetables?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from iam_watcher.airflow_internals import deployment
from iam_watcher.doctor.finding import Finding
from iam_watcher.timetables import TIMETABLES

if TYPE_CHECKING:
    from collections.abc import Iterator

OURS = "iam_watcher"


def check_plugin() -> Iterator[Finding]:
    """Check that Airflow has loaded the plugin once, as each of its components does."""
    timetables, errors = deployment.plugins()
    ours = {source: error for source, error in errors.items() if OURS in source or OURS in error}
    for source, error in ours.items():
        yield Finding(
            f"Airflow can't load the plugin from {source}: {error}. Correct that, then restart all components"
        )
    if ours:
        return
    for timetable in TIMETABLES:
        name = f"{timetable.__module__}.{timetable.__qualname__}"
        if name not in timetables:
            yield Finding(
                f"Airflow does not know the timetable {name}, so the scheduler can't read a watcher's "
                "schedule. Install airflow-iam-watcher on this machine, or put its files into "
                f"[core] plugins_folder ({deployment.plugins_folder()}), then restart all components"
            )
