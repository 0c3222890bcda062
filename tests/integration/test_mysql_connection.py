"""The Airflow connection to the database: what it may say, and the errors if it does not work."""

from __future__ import annotations

from contextlib import closing

import MySQLdb
import pytest
from airflow.sdk.exceptions import AirflowFailException

from dev.processes import free_port
from iam_watcher.database import hook
from iam_watcher.database.hook import connect
from iam_watcher.errors import ConnectionRefused, DatabaseUnavailable
from tests.integration.test_disable_users import disable, enabled, user

pytestmark = pytest.mark.every_server


@pytest.fixture
def connection(monkeypatch, iam_schema):
    """A function that sets the connection `other`: the watchers', but for what is given."""

    def set_connection(account=None, place=None, tail="/iam"):
        account = f"{iam_schema.user}:{iam_schema.password}" if account is None else account
        place = place or f"{iam_schema.host}:{iam_schema.port}"
        monkeypatch.setenv("AIRFLOW_CONN_OTHER", f"mysql://{account}@{place}{tail}")
        return f"connection 'other', account '{account.partition(':')[0]}' at {place}: "

    return set_connection


@pytest.mark.parametrize("charset", ["latin1", "gbk", "utf8"])
def test_the_character_set_is_ours(connection, iam, perform, charset):
    connection(tail=f"/iam?charset={charset}")
    for name in ("svc-Ünal", "svc-三", "Ünal", "三"):
        user(iam, name)
    perform(disable(mysql_conn_id="other", exempt_names=["svc-Ünal", "svc-三"]))
    assert enabled(iam) == {"svc-Ünal", "svc-三"}


def test_another_client_is_refused_by_name(connection, perform):
    connection(tail="/iam?client=mysql-connector-python")
    with pytest.raises(
        AirflowFailException, match="client='mysql-connector-python'; the jobs need 'mysqlclient'"
    ):
        perform(disable(mysql_conn_id="other"))


def test_a_server_that_is_away(connection):
    where = connection(place=f"127.0.0.1:{free_port()}")
    with pytest.raises(DatabaseUnavailable) as caught:
        connect("other")
    assert where in str(caught.value)
    assert "check that the server runs" in str(caught.value)
    assert not isinstance(caught.value, ConnectionRefused)


def test_a_host_that_does_not_exist(connection):
    where = connection(place="no-such-host.invalid:3306")
    with pytest.raises(DatabaseUnavailable, match=r"check .* host .*of the connection") as caught:
        connect("other")
    assert where in str(caught.value)


@pytest.mark.parametrize(
    ("account", "tail", "message"),
    [
        # For an unknown login, MariaDB answers as for a random account: 1698 is the answer for unix_socket.
        ("nobody:here", "/iam", r"\((1045|1698), .*check (the )?login"),
        (None, "/mysql", r"\(1044, .*grant the account its rights on this database"),
        ("admin", "/none", r"\(1049, .*correct the schema of the connection"),
    ],
)
def test_what_a_retry_cannot_mend_fails_at_once(connection, iam_schema, perform, account, tail, message):
    account = f"{iam_schema.admin_user}:{iam_schema.admin_password}" if account == "admin" else account
    where = connection(account=account, tail=tail)
    with pytest.raises(AirflowFailException, match=message) as caught:
        perform(disable(mysql_conn_id="other"))
    assert where in str(caught.value)
    assert iam_schema.admin_password not in str(caught.value)


@pytest.fixture
def account(iam_schema):
    """An account that a test may spoil; the value is a function that runs a statement as the admin."""
    with closing(iam_schema.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE USER spoilt IDENTIFIED BY 'secret-word'")
        yield cursor.execute
        cursor.execute("DROP USER spoilt")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("ALTER USER spoilt ACCOUNT LOCK", r"\((3118|4151), .*unlock the account"),
        ("ALTER USER spoilt PASSWORD EXPIRE", r"\((1820|1862), .*set a new password"),
    ],
)
def test_an_account_that_is_locked_or_expired(connection, account, spoil, message):
    where = connection(account="spoilt:secret-word", tail="/")
    account(spoil)
    with pytest.raises(ConnectionRefused, match=message) as caught:
        connect("other")
    assert where in str(caught.value)
    assert "secret-word" not in str(caught.value)


def test_a_connection_that_cannot_be_set_up_is_closed(connection, monkeypatch):
    opened = []

    def fail(session):
        opened.append(session)
        raise MySQLdb.OperationalError(1820, "made by the test")

    connection()
    monkeypatch.setattr(hook, "set_up", fail)
    with pytest.raises(ConnectionRefused):
        connect("other")
    assert [bool(session.open) for session in opened] == [False]


@pytest.mark.parametrize("password", ["ab/cd", "12/cd", "12/c@d", "ab#cd", "12?cd", "ab[cd"])
def test_a_password_that_cuts_its_uri_in_two(connection, monkeypatch, password):
    connection(account=f"someone:{password}", place=f"127.0.0.1:{free_port()}")
    with pytest.raises(DatabaseUnavailable, match="percent-encoded: %2F for '/', %40 for '@'") as caught:
        connect("other")
    assert password[-2:] not in str(caught.value).partition("percent-encoded")[0]


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        ("ssl=yes", "has the extra ssl with a value that is not valid"),
        ("ssl_mod=VERIFY_IDENTITY", "has the extra 'ssl_mod', which is not known; write ssl_mode instead"),
        ("ssl-mode=REQUIRED", "has the extra 'ssl-mode', which is not known; write ssl_mode instead"),
        ("ssl_ca=/ca.pem", "has the extra 'ssl_ca', which is not known; write ssl="),
        ("use_ssl=true", "has the extra 'use_ssl', which is not known; write ssl instead"),
        (
            "ssl_mode=verify_identity",
            "has the extra ssl_mode='verify_identity'; expected one of DISABLED, .*VERIFY_IDENTITY",
        ),
        (
            "ssl={%22ssl_mode%22:%22VERIFY_IDENTITY%22}",
            "has the key 'ssl_mode' in the extra ssl; write ssl_mode beside ssl, not in it",
        ),
        ("__extra__=[1]", "has extras that are not a JSON object"),
    ],
)
def test_extras_that_would_mean_no_tls_are_refused_before_anything_is_sent(connection, tail, message):
    """There is no server at that port, and the error is not that of a server that is away."""
    connection(place=f"127.0.0.1:{free_port()}", tail=f"/iam?{tail}")
    with pytest.raises(ConnectionRefused, match=f"connection 'other' {message}.*Nothing was sent"):
        connect("other")
