"""The account of docs/lock.md: the whole contract runs as it (see conftest); here is what it can't do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from redis.exceptions import NoPermissionError, ResponseError

from tests.contract.conftest import ACCOUNT

if TYPE_CHECKING:
    from dev.servers import Redis

OTHERS = "another-programs-key"
# What would end other programs' work, tell their data, or change the server.
FORBIDDEN = [
    "FLUSHALL",
    "FLUSHDB",
    "SWAPDB 0 1",
    "KEYS *",
    "CLIENT KILL TYPE normal",
    "CLIENT LIST",
    "CLIENT PAUSE 1",
    "CONFIG GET *",
    "CONFIG SET maxmemory 1",
    "SHUTDOWN NOSAVE",
    "MONITOR",
    "SAVE",
    "BGREWRITEAOF",
    "REPLICAOF NO ONE",
    "FAILOVER",
    "ACL WHOAMI",
    "ACL SETUSER watcher allcommands",
    "SCRIPT FLUSH",
    "SCRIPT KILL",
    "FUNCTION FLUSH",
    "MODULE LIST",
    "INFO",
    "DBSIZE",
    "RANDOMKEY",
    "SLOWLOG GET",
    "LATENCY RESET",
    "CLUSTER RESET",
    "MIGRATE 127.0.0.1 1 clean 0 1",
    "RESTORE clean 0 x",
    "DUMP clean",
    "RENAME clean task",
    "COPY clean task",
    "MOVE clean 1",
    "PERSIST clean",
    "UNLINK clean",
    f"GET {OTHERS}",
    f"SET {OTHERS} 1",
    f"DEL {OTHERS}",
    f"EVAL return(redis.call('GET',KEYS[1])) 1 {OTHERS}",
    "PUBLISH another-programs-channel 1",
    "PSUBSCRIBE *",
    "SUBSCRIBE another-programs-channel",
]


@pytest.mark.parametrize("command", FORBIDDEN)
def test_the_documented_account_may_not(command: str, redis_servers: list[Redis]) -> None:
    with redis_servers[0].client() as admin:
        admin.set(OTHERS, "theirs")
        with redis_servers[0].client(**ACCOUNT) as client, pytest.raises(NoPermissionError):
            client.execute_command(*command.split())
        assert admin.get(OTHERS) == b"theirs"


def test_a_script_gives_the_documented_account_no_right(redis_servers: list[Redis]) -> None:
    with redis_servers[0].client() as admin, redis_servers[0].client(**ACCOUNT) as client:
        admin.set(OTHERS, "theirs")
        for command in ("'FLUSHALL'", "'KEYS', '*'", f"'DEL', '{OTHERS}'"):
            with pytest.raises(ResponseError, match="The user executing the script can't"):
                client.eval(f"return redis.call({command})", 0)
        assert admin.get(OTHERS) == b"theirs"
