"""What an error of the server's means for a new connection, by its number."""

from __future__ import annotations

import MySQLdb
import pytest

from iam_watcher.database.hook import connect
from iam_watcher.errors import ConnectionRefused, DatabaseUnavailable


@pytest.fixture
def connect_to(monkeypatch):
    """A function that connects to a server which answers with an error of this number."""

    def connect_to(code):
        def refuse(**_):
            raise MySQLdb.OperationalError(code, "made by the test")

        monkeypatch.setenv("AIRFLOW_CONN_OTHER", "mysql://someone:secret-word@db.invalid:3307/iam")
        monkeypatch.setattr("MySQLdb.connect", refuse)
        return connect("other")

    return connect_to


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (1044, "grant the account its rights"),
        (1045, "check login and password"),
        (1049, "create the database"),
        (1130, "may connect from this worker's host"),
        (1251, "authentication plugin"),
        (1524, "authentication plugin"),
        (1698, "check the login"),
        (1820, "set a new password"),
        (1862, "set a new password"),
        (2059, "authentication plugin"),
        (3118, "unlock the account"),
        (3159, "the server wants TLS"),
        (3955, "unlock the account"),
        (4151, "unlock the account"),
    ],
)
def test_what_another_try_cannot_mend_ends_the_task(connect_to, code, advice):
    where = "connection 'other', account 'someone' at db.invalid:3307: "
    with pytest.raises(ConnectionRefused, match=rf"{where}\({code}, 'made by the test'\); .*{advice}"):
        connect_to(code)


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (1040, "raise max_connections"),
        (1129, "FLUSH HOSTS"),
        (1203, "raise max_user_connections"),
        (1226, "raise the limit"),
        (2002, "check that the server runs"),
        (2003, "check that the server runs"),
        (2005, "check the host"),
        (2026, 'check the extra "ssl"'),
        (3032, "the server is in offline mode"),
        (1105, ""),
    ],
)
def test_what_another_try_may_mend_is_no_refusal(connect_to, code, advice):
    with pytest.raises(DatabaseUnavailable, match=rf"\({code}, 'made by the test'\).*{advice}") as caught:
        connect_to(code)
    assert not isinstance(caught.value, ConnectionRefused)
