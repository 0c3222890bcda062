"""What each of the sample watchers did: its runs, oldest first."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from dev.page.past import report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from random import Random

Facts = dict[str, Any]
DAY = 86_400
RUNS = 30
ERROR = (
    "SafetyLimitError: The safety limit stopped the run; this try changed nothing: 1,552 of 2,800 users "
    "of user, more than max_share=0.5"
)
UNDO = "s3://iam/reports/user/disable_inactive_users/scheduled__2026-11-23T00-00-00/1"
FAILED_BOUNCES, FAILED_AUDIT = (
    (11, RUNS - 1, 45),
    (6,),
)  # runs ago; one of the bounces before those of the bars
BLOCKED = 5  # runs of clean_sessions
GENTLE = 7  # runs of clean_sessions_gently


def past(dag_id: str, now: datetime, chance: Random) -> Iterator[Facts]:
    """Yield the arguments of `add_run` for each run of a sample watcher."""
    if dag_id not in STORIES:
        return
    story, step, runs = STORIES[dag_id]
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    first = midnight if step == DAY else now - timedelta(seconds=20)
    for ago in range(runs - 1, -1, -1):
        at = first - timedelta(seconds=step * ago)
        yield {"at": at, "state": "success", **story(ago, at, chance)}


def _bounces(ago: int, at: datetime, chance: Random) -> Facts:  # noqa: ARG001  as all stories
    return {"state": "failed" if ago in FAILED_BOUNCES else "success", "seconds": chance.uniform(2, 5)}


def _sessions(ago: int, at: datetime, chance: Random) -> Facts:
    if ago >= BLOCKED:
        return _returned("purge", report("session", examined=90_000, changed=chance.randint(2_000, 9_000)))
    since = (at - timedelta(days=BLOCKED - 1 - ago) + timedelta(hours=3)).isoformat()
    holder = {"key": "sessions", "owner": "standby/clean_sessions/x", "deployment": "standby", "since": since}
    return {"acquire": "skipped", "seconds": 5, "xcoms": {("acquire", "holder"): holder}}


def _gently(ago: int, at: datetime, chance: Random) -> Facts:  # noqa: ARG001
    done = report("session", examined=90_000, changed=chance.randint(2_000, 9_000))
    if ago:
        return _returned("purge", done)
    return _returned("purge", done | {"dry_run": True, "matched": 48_210, "changed": 0}, user="admin")


def _secrets(ago: int, at: datetime, chance: Random) -> Facts:  # noqa: ARG001
    return _returned(
        "purge",
        report("secret", examined=1_000, changed=chance.randint(5, 300), skipped={"never_expires": 200}),
    )


def _audit(ago: int, at: datetime, chance: Random) -> Facts:  # noqa: ARG001
    changed = chance.randint(90_000, 500_000)
    done = report("policy_audit", examined=1_000_000, changed=changed, duration_seconds=16.3)
    if ago not in FAILED_AUDIT:
        return _returned("purge", done, seconds=16.3)
    error = "DatabaseUnavailable: The database can't be reached"
    return _returned("purge", done | {"error": error}, state="failed", seconds=3)


def _users(ago: int, at: datetime, chance: Random) -> Facts:  # noqa: ARG001
    done = report(
        "user",
        examined=2_920,
        changed=1_240 if ago == 1 else chance.randint(3, 40),
        skipped={"admin": 5, "exempt_name": 15},
        undo_record=UNDO,
    )
    if ago:
        return _returned("disable", done)
    limit = {
        "changed": 0,
        "matched": 1_552,
        "eligible": 2_800,
        "max_share": 0.5,
        "error": ERROR,
        "undo_record": None,
    }
    return _returned("disable", done | limit, state="failed", seconds=4)


def _returned(task: str, value: Facts, **facts: Any) -> Facts:
    return {"xcoms": {(task, "return_value"): value}, **facts}


# Watcher -> what it did, seconds between two runs, how many runs.
STORIES: dict[str, tuple[Callable[[int, datetime, Random], Facts], int, int]] = {
    "collect_bounces": (_bounces, 303, 2 * RUNS),
    "clean_sessions": (_sessions, DAY, RUNS),
    "clean_sessions_gently": (_gently, DAY, GENTLE),
    "clean_expired_secrets": (_secrets, 3_600, RUNS),
    "clean_policy_audit": (_audit, DAY, RUNS),
    "disable_inactive_users": (_users, DAY, RUNS),
}
