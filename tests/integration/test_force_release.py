"""The command line for locks, as a person types it."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dev.servers import Redis as Server
from iam_watcher.errors import LockError, LockUnavailable
from iam_watcher.lock import __main__ as command_line
from iam_watcher.lock.admin.force_release import force_release
from iam_watcher.lock.admin.inspection import history, holders
from iam_watcher.lock.lease import Lease
from iam_watcher.lock.observer import Observer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis as Client

REPO = Path(__file__).parents[2]


def process(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "iam_watcher.lock", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPO / "plugins",
    )


@pytest.mark.parametrize("name", ["iam_redis", "other"])
def test_a_connection_that_the_shell_lacks_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_IAM_REDIS", raising=False)
    done = process("list", *(["--redis-conn-id", name] if name == "other" else []))
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert f"the connection '{name}' is not defined" in line
    assert f"Set AIRFLOW_HOME or AIRFLOW_CONN_{name.upper()} as your Airflow has it" in line


def test_a_connection_may_be_in_airflows_database(
    airflow_db: None, redis_server: Server, redis_client: Client
) -> None:
    from airflow.models import Connection
    from airflow.utils.session import create_session

    with create_session() as session:
        session.add(Connection(conn_id="stored", uri=redis_server.airflow_uri))  # noqa: AIR311  a row
    done = process("list", "--redis-conn-id", "stored")
    assert (done.returncode, done.stdout) == (0, "no lock is held\n")


def test_an_account_without_a_name_is_named_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 50007")

    monkeypatch.setattr("getpass.getuser", nameless)
    assert command_line._account() == f"uid {os.getuid()}"


def test_list_show_and_release(redis_client: Client, command) -> None:
    lease = Lease(redis_client, "clean", "prod/dag/run", ttl=60)
    assert lease.acquire()
    listed = process("list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "\n'clean' is held by prod/dag/run since " in f"\n{listed.stdout}"
    freed = command("release", "clean", "--reason", "its worker is gone", "--by", "ops")
    assert (freed.returncode, freed.stderr) == (0, "")
    assert freed.stdout.endswith(
        "released by force: 'clean', which prod/dag/run held. If it is still alive, it notices that within "
        "2 s: a table job then stops at its next safe point, and any other task gets SIGTERM\n"
        "'clean' is held by nobody now\n"
    )
    assert lease.heartbeat("", "") == "revoked"
    shown = command("show", "clean").stdout
    assert "'clean' is held by nobody\nreleased by force at " in shown
    assert "by ops: its worker is gone (holder: prod/dag/run)" in shown
    assert command("list").stdout.endswith("no lock is held\n")


def test_the_connection_may_be_named_after_the_command_too(redis_client: Client, command) -> None:
    done = command("list", "--redis-conn-id", "nowhere")
    assert (done.returncode, "nowhere" in done.stderr) == (1, True)
    assert command("list", "--redis-conn-id", "iam_redis").returncode == 0


@pytest.mark.parametrize("arguments", [[], ["release", "clean"], ["show"]])
def test_a_command_line_that_lacks_a_part_is_refused(redis_client: Client, command, arguments) -> None:
    redis_client.set("clean", "x7Qy", px=60_000)
    with pytest.raises(SystemExit) as ended:
        command(*arguments)
    assert ended.value.code == 2
    assert redis_client.get("clean") == b"x7Qy"


def test_a_lock_of_the_go_side_can_be_freed_too(redis_client: Client, command) -> None:
    redis_client.set("clean", "x7Qy", px=60_000)
    freed = command("release", "clean", "--reason", "it crashed").stdout
    assert "'clean', which x7Qy held. The Go iam-watcher does not notice that" in freed
    assert redis_client.get("clean") is None


@pytest.mark.parametrize("owner", ["x7Qy", "prod/dag/run"])
def test_every_key_that_a_forced_release_leaves_expires(redis_client: Client, owner: str) -> None:
    """A lock of the Go program has no key but its own."""
    redis_client.set("clean", owner, px=60_000)
    force_release([redis_client], "clean", by="ops", reason="it crashed")
    left = {name: redis_client.pttl(name) for name in redis_client.scan_iter()}
    assert b"{clean}:history" in left
    assert len(left) > 1
    assert all(ms > 0 for ms in left.values()), left


@pytest.mark.parametrize("record", ['{"by": "ops", "in_version_2": 1}', "[]", "no JSON"])
def test_a_record_that_this_version_does_not_know(redis_client: Client, command, record: str) -> None:
    redis_client.lpush("{clean}:history", record)
    shown = command("show", "clean")
    assert (shown.returncode, shown.stdout) == (1, "")
    assert "the forced releases of 'clean' can't be read" in shown.stderr
    assert "or delete the key '{clean}:history' in Redis" in shown.stderr


def test_there_is_nothing_to_free(redis_client: Client, command) -> None:
    done = command("release", "clean", "--reason", "a typo")
    assert done.returncode == 1
    assert "'clean' is held by nobody" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_connection_that_does_not_exist(command) -> None:
    done = command("--redis-conn-id", "nowhere", "list")
    assert done.returncode != 0
    assert "nowhere" in done.stderr


@pytest.fixture
def three(redis_server: Server, tmp_path: Path, monkeypatch) -> Iterator[list[Server]]:
    """Three servers, the connections `redis_0` to `redis_2`."""
    with Server(tmp_path / "second") as second, Server(tmp_path / "third") as third:
        servers = [second, redis_server, third]
        for number, server in enumerate(servers):
            monkeypatch.setenv(f"AIRFLOW_CONN_REDIS_{number}", server.airflow_uri)
        yield servers


def test_all_of_it_works_on_a_quorum_with_one_server_down(
    redis_client: Client, three: list[Server], command
) -> None:
    conn_ids = [text for number in range(3) for text in ("--redis-conn-id", f"redis_{number}")]
    with ExitStack() as stack:
        clients = [stack.enter_context(server.client(socket_timeout=1.0)) for server in three]
        assert Lease(clients, "clean", "prod/dag/run", ttl=60).acquire()
        three[0].stop()
        assert [holder.owner for holder in holders(clients)] == ["prod/dag/run"]
        assert history(clients, "clean") == []
        assert "'clean' is held by prod/dag/run" in command(*conn_ids, "list").stdout
        freed = command(*conn_ids, "release", "clean", "--reason", "its worker is gone")
        assert (freed.returncode, freed.stderr) == (0, "")
        shown = command(*conn_ids, "show", "clean")
        assert (shown.returncode, shown.stderr) == (0, "")
        assert "its worker is gone" in shown.stdout
        assert [past.reason for past in history(clients, "clean")] == ["its worker is gone"]


def test_connections_before_and_after_the_command_are_all_asked(
    redis_client: Client, three: list[Server], command
) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(server.client(socket_timeout=1.0)) for server in three]
        assert Lease(clients, "clean", "prod/dag/run", ttl=60).acquire()
        clients[2].delete("clean")
    for before, after in (((0,), (1, 2)), ((0, 1), (2,)), ((0, 1, 2), (0,))):
        named, more = ([f"--redis-conn-id=redis_{number}" for number in some] for some in (before, after))
        assert "'clean' is held by prod/dag/run" in command(*named, "show", "clean", *more).stdout


def test_no_server_that_answers_is_an_error_of_the_lock(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        clients = [server.client(socket_timeout=1.0)]
    for look in (holders, lambda clients: history(clients, "clean")):
        with pytest.raises(LockUnavailable, match=f"127.0.0.1:{server.port} did not answer"):
            look(clients)


@pytest.mark.parametrize(("by", "reason"), [("", "why"), ("who", " ")])
def test_who_and_why_must_be_said(redis_client: Client, by: str, reason: str) -> None:
    assert Lease(redis_client, "clean", "a", ttl=60).acquire()
    with pytest.raises(LockError, match="expected who releases 'clean' and why"):
        force_release([redis_client], "clean", by=by, reason=reason)
    assert redis_client.get("clean") == b"a"


@pytest.mark.parametrize(
    ("following", "message"),
    [
        ("", "'clean' became free at this moment; there is nothing to release"),
        (
            "second",
            "'clean' changed its owner at this moment, .* Now 'clean' is held by second since .* again",
        ),
    ],
)
def test_a_holder_that_releases_at_this_moment(
    redis_client: Client, monkeypatch: pytest.MonkeyPatch, following: str, message: str
) -> None:
    first, revoke = Lease(redis_client, "clean", "first", ttl=60), Observer.revoke
    assert first.acquire()

    def revoke_late(lock: Observer, owner: str, record: str) -> bool:
        assert first.release()
        assert not following or Lease(redis_client, "clean", following, ttl=60).acquire()
        return revoke(lock, owner, record)

    monkeypatch.setattr(Observer, "revoke", revoke_late)
    with pytest.raises(LockError, match=message):
        force_release([redis_client], "clean", by="ops", reason="it hangs")
    assert history([redis_client], "clean") == []


def test_what_was_freed_is_remembered_newest_first(redis_client: Client) -> None:
    for number in range(3):
        assert Lease(redis_client, "clean", f"owner-{number}", ttl=60).acquire()
        force_release([redis_client], "clean", by="ops", reason=str(number))
    assert [past.reason for past in history([redis_client], "clean")] == ["2", "1", "0"]
