"""The Airflow DAGs of bench/guard.py, one of each kind."""

from bench.guarded_dags import bare, triggered, watcher

bare("bare")
watcher("watcher")
triggered("triggered")
