"""An Airflow DAG that deletes sessions which ended more than 30 days ago."""

from iam_watcher import Watcher
from iam_watcher.jobs.purge_rows import PurgeRowsOperator

with Watcher("clean_old_sessions", schedule="0 0 3 * * *"):
    PurgeRowsOperator(
        task_id="purge",
        mysql_conn_id="shop_db",
        table="session",
        age_column="endedAt",
        older_than_days=30,
        max_share=0.5,
        archive="configured",
        dry_run=True,  # counts and lists the rows; remove this line when the run report is as you expect
    )
