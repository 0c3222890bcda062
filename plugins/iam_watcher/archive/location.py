"""The location of archives, undo records and lists of dry runs, and the folder of a run below it."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from iam_watcher import arguments
from iam_watcher.archive.storage import Folder
from iam_watcher.errors import JobArgumentError

if TYPE_CHECKING:
    from airflow.sdk import Context


def configured_location() -> str | None:
    """Return the location that `[iam_watcher] archive` names, or None if the option is empty."""
    from airflow.sdk.configuration import conf

    value = conf.get("iam_watcher", "archive", fallback="") or None
    return arguments.location("[iam_watcher] archive", value)


def location_or_configured(value: object) -> str:
    """Return an operator's `location` or, if it has none, the configured one.

    Raises:
        JobArgumentError: there is neither.
    """
    location = arguments.location("location", value) or configured_location()
    if location is None:
        raise JobArgumentError(
            "location is None, and [iam_watcher] archive is empty. Set one of them to a URL such as "
            "'s3://connection@bucket/folder'"
        )
    return location


def run_folder(location: str, table: str, context: Context) -> Folder:
    """Return the folder of this run and table, which all tries of the run share.

    Raises:
        JobArgumentError: Airflow has no connection of the id that the location names.
    """
    from airflow.sdk.configuration import conf

    ti = context["ti"]
    deployment = conf.get("iam_watcher", "deployment_id", fallback="")
    whole = "\0".join((deployment, ti.dag_id, ti.run_id, ti.task_id, str(getattr(ti, "map_index", -1))))
    # Characters of a run id that have a meaning in a URL are replaced. The digest differs for run ids that
    # look the same then.
    run = f"{_plain(ti.run_id)}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"
    folder = Folder(location)
    folder.check_connection()
    folder.warn_of_own_disk()
    return folder / _plain(table) / _plain(ti.dag_id) / run


def _plain(text: str) -> str:
    """Return a text as the name of a folder: ".." would be the folder above."""
    return re.sub(r"^\.+|[^A-Za-z0-9._-]+", "_", text)[:100]
