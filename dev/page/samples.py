"""Write the sample watchers and their runs: `python -m dev.page.samples` in an Airflow's environment."""

from __future__ import annotations

import argparse
import random
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from dev.page.copies import write_copies
from dev.page.past import add_run, store
from dev.page.stories import past

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def main() -> int:
    """Write the samples into the database of this environment's Airflow."""
    parser = argparse.ArgumentParser(prog="python -m dev.page.samples", description=__doc__)
    parser.add_argument("--copies", type=int, default=0, help="more watchers, each with 30 runs")
    given = parser.parse_args()
    from airflow.utils.session import create_session

    with create_session() as session:
        write_samples(session)
        if given.copies:
            write_copies(session, given.copies)
    return 0


def write_samples(session: Session) -> None:
    """Write the watchers of the pictures with their past."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.models.dag import DagModel

    from dev.page.watchers import other_dags, sample_watchers

    bundles: Any = DagBundlesManager
    bundles().sync_bundles_to_db(session=session)
    session.commit()
    chance = random.Random(16)  # noqa: S311  invented numbers
    now = datetime.now(UTC)
    for dag in (*sample_watchers(), *other_dags()):
        store(dag, session)
        model = session.get_one(DagModel, dag.dag_id)
        model.is_paused = dag.dag_id == "clean_sessions_gently"
        for facts in past(dag.dag_id, now, chance):
            add_run(session, dag.dag_id, **facts)
        if dag.dag_id == "collect_bounces":
            at = now + timedelta(seconds=288)
            model.next_dagrun = model.next_dagrun_create_after = at
    session.commit()


if __name__ == "__main__":
    sys.exit(main())
