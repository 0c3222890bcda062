"""GET /iam-watcher/health: for a load balancer or a monitor, which have no login.

The route is open to everybody, as Airflow's own /api/v2/monitor/health is. So the answer has a word for each
part and nothing else, and the log of the API server has the reason.
"""

# ruff: noqa: TID253  only the API server imports this
from __future__ import annotations

from fastapi import APIRouter, Response

from iam_watcher.health.check import look
from iam_watcher.health.latest import Latest
from iam_watcher.ui.access import answer

GOOD, BAD = 200, 503

health = APIRouter()
latest = Latest(look)


@health.api_route("/health", methods=["GET", "HEAD"])
async def show_health() -> Response:
    """Return part -> "healthy", "unhealthy", or null for a part that no active watcher uses."""
    found = await latest.get()
    return answer(found.as_dict(), status=GOOD if found.is_good else BAD)
