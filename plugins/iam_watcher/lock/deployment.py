"""Which Airflow this is, among all that share a Redis.

The id comes from the configuration, so two deployments can have the same id by mistake; each would then
believe that the other's locks are its own. So every deployment also has a fingerprint, a random text in its
own metadata database (an Airflow Variable), and Redis stores which fingerprint uses which id.
"""

from __future__ import annotations

import random
import re
import time
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Variable
from airflow.sdk.configuration import conf

from iam_watcher.errors import DeploymentIdError, LockBusy
from iam_watcher.lock.answers import node, unavailable
from iam_watcher.lock.lease import Lease
from iam_watcher.lock.scripts import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis import Redis

FINGERPRINT = "iam_watcher_fingerprint"  # the Airflow Variable
CLAIM_KEY = "iam-watcher:deployment:{id}"
MADE_WITHIN = 10.0  # seconds; if the task that makes the fingerprint dies, the others wait so long
LOOK_EVERY = (0.05, 0.25)  # seconds between two looks for the fingerprint that another task makes
CLAIM_MS = 7 * 86_400_000  # after so long, another deployment may use the id of one that is gone

# KEYS: claim. ARGV: fingerprint, ms. Returns 1 if the fingerprint has the id.
CLAIM = """
local claimed = redis.call('GET', KEYS[1])
if claimed and claimed ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""


def deployment_id() -> str:
    """Return `[iam_watcher] deployment_id`, which identifies this Airflow among all on the same Redis.

    Raises:
        DeploymentIdError: it is empty, or not valid as a part of an owner.
    """
    value: str = conf.get("iam_watcher", "deployment_id", fallback="")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
        # Not shown: by mistake, the value may be a secret.
        is_now = f"can't be an id ({len(value)} characters, not shown)" if value else "is empty"
        raise DeploymentIdError(
            f"[iam_watcher] deployment_id {is_now}; expected 1 to 64 letters, digits, '.', '_' or '-', "
            "the same on all machines of this Airflow and different in any other that shares its Redis. "
            "Set AIRFLOW__IAM_WATCHER__DEPLOYMENT_ID"
        )
    return value


def standby_delay() -> timedelta:
    """Return `[iam_watcher] standby_delay`: for how long this Airflow lets another one work first.

    Raises:
        DeploymentIdError: it is no number of seconds, or below 0.
    """
    value = conf.get("iam_watcher", "standby_delay", fallback="0") or "0"
    if not re.fullmatch(r"[0-9]{1,6}", value):
        raise DeploymentIdError(
            f"[iam_watcher] standby_delay = {value!r} is not valid. Use a whole number of seconds, such as "
            "120, or 0 if this Airflow is no standby"
        )
    return timedelta(seconds=int(value))


def claim(clients: Sequence[Redis]) -> None:
    """Store that this Airflow uses its id on these servers.

    Raises:
        DeploymentIdError: another Airflow uses the id.
        LockUnavailable: the lock has one server, which does not answer.
        LockBusy: another task of this deployment has not made the fingerprint in time.
    """
    from redis import RedisError
    from redis.exceptions import RedisClusterException

    name = deployment_id()
    key = CLAIM_KEY.format(id=name)
    fingerprint = _fingerprint(clients, name)
    for client in clients:
        try:
            ours = client.register_script(CLAIM)(keys=[key], args=[fingerprint, CLAIM_MS])
        except (RedisError, RedisClusterException) as error:
            if len(clients) == 1:
                raise unavailable(client, key, error) from error
            continue  # The lock itself checks whether enough servers answer.
        if not ours:
            raise DeploymentIdError(
                f"another Airflow uses the id {name!r} on the Redis {node(client)}. Give one of them "
                "another AIRFLOW__IAM_WATCHER__DEPLOYMENT_ID. If this is the same one with a new metadata "
                f"database, delete the key {key!r} in Redis"
            )


def claimed_by_another(client: Redis) -> bool:
    """Return whether another Airflow uses our id on this server, without a change.

    Raises:
        DeploymentIdError: see `deployment_id`.
        RedisError: the server does not answer.
    """
    claimed: Any = client.get(CLAIM_KEY.format(id=deployment_id()))
    return claimed is not None and text(claimed) != Variable.get(FINGERPRINT, default=None)


def _fingerprint(clients: Sequence[Redis], name: str) -> str:
    """Return the fingerprint of this deployment, and make it if there is none.

    Several watchers may begin at once in a new deployment: one of them makes it, the others wait.
    """
    lease = Lease(clients, f"iam-watcher:fingerprint:{name}", uuid.uuid4().hex, ttl=MADE_WITHIN)
    deadline = time.monotonic() + 2 * MADE_WITHIN
    while not (found := Variable.get(FINGERPRINT, default=None)):
        if lease.acquire():
            try:
                if not Variable.get(FINGERPRINT, default=None):
                    about = "Identifies this Airflow among others on the same Redis."
                    Variable.set(FINGERPRINT, uuid.uuid4().hex, description=about)
            finally:
                lease.release()
        elif time.monotonic() > deadline:
            raise LockBusy(lease.holder(), lease.key)
        else:
            time.sleep(random.uniform(*LOOK_EVERY))  # noqa: S311  jitter, not a secret
    return str(found)
