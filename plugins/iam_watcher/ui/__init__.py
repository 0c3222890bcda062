"""The Watchers page of Airflow: all watchers in one list, and a tab on each watcher's DAG page.

Loaded in the API server only, and there at the first request. It reads Airflow's database and Redis, never
MySQL. `page/` is what the browser loads: plain ES modules, written by hand, without a build step.
"""
