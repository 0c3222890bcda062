"""What Airflow reads about this package when it is installed: our section of its configuration.

Airflow finds it by the entry point `apache_airflow_provider`, which only an installed wheel has. Loaded
from the plugins folder, the options work the same, but `airflow config list` shows only those that are set.
"""

from __future__ import annotations

from typing import Any

DISTRIBUTION = "airflow-iam-watcher"


def get_provider_info() -> dict[str, Any]:
    """Return it in the form of Airflow's provider_info.schema.json."""
    return {
        "package-name": DISTRIBUTION,
        "name": "IAM watchers",
        "description": "Housekeeping jobs for IAM: one Redis lock, small MySQL transactions.",
        "config": {
            "iam_watcher": {
                "description": "What the watchers need to know about this Airflow.",
                "options": {
                    "deployment_id": {
                        "description": (
                            "Tells this Airflow from all others that share a Redis with it: part of the "
                            "owner of every lock. 1 to 64 letters, digits, '.', '_' or '-'; the same on all "
                            "of its machines. A watcher with a lock fails while it is empty.\n"
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "production",
                        "default": "",
                    },
                    "settings_file": {
                        "description": (
                            "Path of the settings, a YAML file with the keys of the Go iam-watcher. "
                            "Empty: include/iam-watcher.yaml beside the plugins folder, if it is there.\n"
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "/opt/airflow/include/iam-watcher.yaml",
                        "default": "",
                    },
                    "archive": {
                        "description": (
                            "URL of the location for undo records (who was disabled), archives (rows that "
                            "were deleted) and lists of dry runs: an object store, or a folder that all "
                            "workers share. Empty: disable_inactive_users fails before its first write, and "
                            "clean_policy_audit deletes without an archive.\n"
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
