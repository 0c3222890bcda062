"""Deletes rows, disables users and takes both back, with an S3 for archive; run by test_wheel.py.

Usage: python archive_on_s3.py <this repository>, in an environment with the wheel, the packages of
constraints-s3.txt, and those of the dependency group `test`.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import boto3
import fsspec.config
import pytest
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.io.store import _STORE_CACHE
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

from iam_watcher.archive.storage import Folder
from iam_watcher.errors import ArchiveError
from iam_watcher.jobs.restore_rows import RestoreRowsOperator

sys.path.append(sys.argv[1])
from dev.servers import MariaDB
from tests.integration.conftest import Database, TaskInstance
from tests.integration.test_account_lifecycle import disable, enable
from tests.integration.test_archive import fill, purge
from tests.integration.test_disable_users import LATELY, LONG_AGO, user

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import BaseOperator

ACCOUNT = {"aws_access_key_id": "tester", "aws_secret_access_key": "not-a-secret"}
ARCHIVE = "s3://store@bucket/iam"
AUDIT = "SELECT * FROM policy_audit ORDER BY id"
STATUS = "SELECT name, status FROM user ORDER BY id"


def main() -> None:
    """Do all of it; an AssertionError says what is wrong."""
    with TemporaryDirectory() as folder, MariaDB(Path(folder)) as mariadb, object_store() as store:
        mariadb.create_schema()
        os.environ["AIRFLOW_CONN_IAM_MYSQL"] = mariadb.airflow_uri
        with closing(mariadb.connect()) as connection:
            iam = Database(connection)
            rows_come_back(iam, store)
            users_come_back(iam)
            what_others_wrote_is_seen(store)
            what_is_written_is_encrypted_as_the_configuration_says(iam, store)
            without_a_connection_no_request_is_sent(iam)
            without_a_bucket_nothing_is_deleted(iam)


@contextmanager
def object_store() -> Iterator[Any]:
    """Yield a client of an S3 with a bucket, to which the connection `store` leads."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        url = "http://{}:{}".format(*server.get_host_and_port())
        client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **ACCOUNT)
        client.create_bucket(Bucket="bucket")
        extra = {**ACCOUNT, "endpoint_url": url, "region_name": "us-east-1"}
        os.environ["AIRFLOW_CONN_STORE"] = json.dumps({"conn_type": "aws", "extra": extra})
        yield client
    finally:
        server.stop()


def rows_come_back(iam: Database, store: Any) -> None:
    """Purge, look at the bucket, restore."""
    fill(iam, 2500)
    before = iam.rows(AUDIT)
    report = perform(purge(ARCHIVE), "purge")
    assert report["changed"] == 2500, report
    assert iam.rows(AUDIT) == []
    listed = [entry["Key"] for entry in store.list_objects_v2(Bucket="bucket")["Contents"]]
    run = report["archive"].removeprefix("s3://store@bucket/")
    assert len(listed) > 1, listed
    assert all(key.startswith(f"{run}/") for key in listed), (run, listed)
    perform(back(report), "restore")
    assert iam.rows(AUDIT) == before


def back(report: Any) -> RestoreRowsOperator:
    """Return the watcher that undoes a purge."""
    return RestoreRowsOperator(
        task_id="restore", location=ARCHIVE, path=report["archive"], tables=["policy_audit"]
    )


def users_come_back(iam: Database) -> None:
    """Disable those who are inactive, and enable them again."""
    user(iam, "old", logined=LONG_AGO)
    user(iam, "new", logined=LATELY)
    report = perform(disable(ARCHIVE), "disable")
    assert iam.rows(STATUS) == [("old", 0), ("new", 1)]
    perform(enable(ARCHIVE, report["undo_record"]), "enable")
    assert iam.rows(STATUS) == [("old", 1), ("new", 1)]


def what_others_wrote_is_seen(store: Any) -> None:
    """A client of S3 remembers listings; a reader must see what another worker has written since."""
    folder = Folder(f"{ARCHIVE}/shared")
    folder.write("ours", b"1")
    assert folder.names() == ["ours"]
    store.put_object(Bucket="bucket", Key="iam/shared/theirs", Body=b"2")
    assert folder.names() == ["ours", "theirs"]


def what_is_written_is_encrypted_as_the_configuration_says(iam: Database, store: Any) -> None:
    """A bucket's policy can demand the headers of it; docs/archive.md says how to set them."""
    headers = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/archive"}
    os.environ["FSSPEC_S3"] = json.dumps({"s3_additional_kwargs": headers})
    fsspec.config.set_conf_env(fsspec.config.conf)  # as when a process starts with it
    S3FileSystem.clear_instance_cache()
    _STORE_CACHE.clear()
    report = perform(purge(ARCHIVE), "encrypted")
    assert report["changed"] == 2500, report
    prefix = report["archive"].removeprefix("s3://store@bucket/")
    listed = store.list_objects_v2(Bucket="bucket", Prefix=prefix)["Contents"]
    assert len(listed) > len(("manifest.json", "complete.json")), listed
    for entry in listed:
        head = store.head_object(Bucket="bucket", Key=entry["Key"])
        assert {name: head.get(name) for name in headers} == headers, head
    perform(back(report), "restore encrypted")
    assert len(iam.rows(AUDIT)) == 2500


def without_a_connection_no_request_is_sent(iam: Database) -> None:
    """The machine's own credentials are not a fallback for a misspelt id."""
    before = iam.rows(AUDIT)
    with pytest.raises(AirflowFailException, match="the connection 'stroe', which Airflow doesn't have"):
        perform(purge("s3://stroe@bucket/iam"), "no connection")
    assert iam.rows(AUDIT) == before != []


def without_a_bucket_nothing_is_deleted(iam: Database) -> None:
    """The error names the URL, and the rows stay."""
    before = iam.rows(AUDIT)
    with pytest.raises(ArchiveError, match="s3://store@elsewhere/iam"):
        perform(purge("s3://store@elsewhere/iam"), "no bucket")
    assert iam.rows(AUDIT) == before != []


def perform(operator: BaseOperator, run: str) -> Any:
    """Execute an operator as Airflow's task runner does, and return its report."""
    return operator.execute({"ti": TaskInstance(run)})  # type: ignore[typeddict-item]


if __name__ == "__main__":
    main()
