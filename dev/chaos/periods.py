"""How often the watchers of `make chaos` run.

Each run starts three processes, which takes 4 to 10 s of a core. CHAOS_SLOW=1 is for a machine with less than
two free cores: fewer runs, so fewer facts.
"""

from __future__ import annotations

import os

SLOW = bool(os.environ.get("CHAOS_SLOW"))

# Seconds between two scheduled times, and seconds after a multiple of that.
PERIODS: dict[str, tuple[int, int]] = {
    "chaos_cron": (10, 0),
    "chaos_purge": (60, 0),
    "chaos_bash": (120, 15),
    "chaos_deferred": (120, 45),
    "chaos_users": (120, 75),
}
EVERY, AFTER = 90, 60
if SLOW:
    PERIODS["chaos_cron"] = (30, 0)
    PERIODS |= {name: (240, PERIODS[name][1]) for name in ("chaos_bash", "chaos_deferred", "chaos_users")}
    EVERY, AFTER = 2 * EVERY, 2 * AFTER


def cron(dag_id: str) -> str:
    """Return the schedule of a watcher, with seconds in the first field."""
    period, offset = PERIODS[dag_id]
    if period < 60:  # noqa: PLR2004  seconds
        return f"*/{period} * * * * *"
    minutes, seconds = divmod(offset, 60)
    return f"{seconds} {minutes}-59/{period // 60} * * * *"
