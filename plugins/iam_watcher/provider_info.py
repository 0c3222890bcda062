"""The provider information of this package: its section of Airflow's configuration.

Airflow finds it through the entry point `apache_airflow_provider`, which only an installed wheel has. From
the plugins folder, the options work too, but `airflow config list` shows only options that are set.
"""

from __future__ import annotations

from typing import Any

DISTRIBUTION = "airflow-iam-watcher"
INTEGRATIONS = {"MySQL": "https://www.mysql.com/", "Redis": "https://redis.io/"}
OPERATORS = tuple(
    f"iam_watcher.jobs.{name}"
    for name in (
        "command",
        "disable_users",
        "dry_run_watcher",
        "process_rows",
        "anonymize_rows",
        "purge_rows",
        "reenable_users",
        "restore_rows",
    )
)


def get_provider_info() -> dict[str, Any]:
    """Return the provider information in the form of Airflow's provider_info.schema.json."""
    return {
        "package-name": DISTRIBUTION,
        "name": "IAM watchers",
        "description": "Housekeeping jobs for MySQL and MariaDB: small transactions, one Redis lock.",
        "task-decorators": [
            {"name": "process_rows", "class-name": "iam_watcher.jobs.process_rows.process_rows"}
        ],
        "integrations": [
            {"integration-name": name, "external-doc-url": url, "tags": ["service"]}
            for name, url in INTEGRATIONS.items()
        ],
        "operators": [{"integration-name": "MySQL", "python-modules": list(OPERATORS)}],
        "sensors": [{"integration-name": "Redis", "python-modules": ["iam_watcher.lock.sensor"]}],
        "triggers": [
            {"integration-name": "MySQL", "python-modules": ["iam_watcher.jobs.rows_in_state_trigger"]},
            {
                "integration-name": "Redis",
                "python-modules": ["iam_watcher.lock.deferred", "iam_watcher.lock.trigger"],
            },
        ],
        "cli": ["iam_watcher.command_line.get_commands"],
        "config": {
            "iam_watcher": {
                "description": "Settings of iam-watcher for this Airflow.",
                "options": {
                    "deployment_id": {
                        "description": (
                            "The name of this Airflow among all Airflows that share its Redis. It is part of "
                            "the owner of each lock. 1 to 64 letters, digits, '.', '_' or '-'. Use the same "
                            "name on all machines of this Airflow. If it is empty, a watcher with a lock "
                            "fails.\n"
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "production",
                        "default": "",
                    },
                    "standby_delay": {
                        "description": (
                            "For an Airflow that is a standby of another one with the same DAG files and the "
                            "same Redis: the seconds that a scheduled run waits before it asks for its lock. "
                            "If the other Airflow did the scheduled time meanwhile, the run is skipped. 0: "
                            "this Airflow is no standby.\n"
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "120",
                        "default": "0",
                    },
                    "settings_file": {
                        "description": (
                            "Path of the settings file: YAML, with the keys of the Go iam-watcher. "
                            "If empty: include/iam-watcher.yaml beside the plugins folder, if it exists.\n"
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "/opt/airflow/include/iam-watcher.yaml",
                        "default": "",
                    },
                    "notify": {
                        "description": (
                            "Receivers of the notices failure, lost, overrun and stale of all watchers, in "
                            "addition to those in the DAG files: mail addresses (mailto:address) and ids of "
                            "HTTP connections (webhooks), separated by commas. Secrets belong in the "
                            "connections.\n"
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "mailto:ops@example.com, ops_webhook",
                        "default": "",
                    },
                    "ping": {
                        "description": (
                            "Id of an HTTP connection. Each run calls its URL, followed by the watcher's "
                            "name, when it begins and ends, in the protocol of Healthchecks.\n"
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "healthchecks",
                        "default": "",
                    },
                    "archive": {
                        "description": (
                            "URL of the location for undo records (which users were disabled), archives "
                            "(rows that were deleted) and lists of dry runs: an object store, or a folder "
                            "that all workers share. If empty: disable_inactive_users fails before its first "
                            "write, and clean_policy_audit deletes without an archive.\n"
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "s3://connection@bucket/iam",
                        "default": "",
                    },
                },
            }
        },
    }
