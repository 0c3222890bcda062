"""Which errors of the server leave a question about new values open, and which end the run."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from iam_watcher.database.catalogue import read_table
from iam_watcher.database.transactions import Transactions
from iam_watcher.jobs.table_job.value_trial import NewValues, ValueTrial
from iam_watcher.walk.row_change import RowChange
from tests.integration.conftest import ID

pytestmark = pytest.mark.every_server


@pytest.fixture
def trial(scratch, session):
    scratch.run("CREATE TABLE t (id bigint PRIMARY KEY)")
    db = Transactions(session)
    plan = SimpleNamespace(table=read_table(db, "t"), change=RowChange("`t`", ID, "TRUE"))
    return ValueTrial(db, plan, NewValues("set", {}))


@pytest.mark.parametrize(
    "query",
    [
        "SELECT absent FROM t",
        "SELECT FROM t",
        "SELECT no_such_function(1)",
        "SELECT 18446744073709551615 + 1",
        "SELECT _utf8mb4 'a' COLLATE utf8mb4_bin = _utf8mb4 'b' COLLATE utf8mb4_general_ci",
    ],
)
def test_a_question_that_the_server_does_not_take_is_left_to_the_first_write(trial, caplog, query):
    assert trial.tried(query, "the CHECK constraint low") is None
    assert "Only the first write will tell whether the CHECK constraint low of t takes" in caplog.text


def test_a_text_that_is_no_json_is_left_to_the_first_write(trial, caplog):
    query = "SELECT j.a FROM JSON_TABLE('no JSON', '$[*]' COLUMNS (a int PATH '$')) AS j"
    assert trial.tried(query, "the CHECK constraint low") is None
    assert "Only the first write will tell whether the CHECK constraint low of t takes" in caplog.text


def test_another_error_is_raised(trial):
    with pytest.raises(trial.db.error, match="absent"):
        trial.tried("SELECT 1 FROM absent", "the CHECK constraint low")


def test_a_question_that_the_server_takes_is_answered(trial, caplog):
    assert trial.tried("SELECT 1", "the CHECK constraint low") == ((1,),)
    assert "Only the first write" not in caplog.text
