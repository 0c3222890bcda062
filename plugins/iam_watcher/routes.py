"""All routes below /iam-watcher: those of the page, and the health address.

Two packages, because the page never asks MySQL.
"""

from __future__ import annotations

from iam_watcher.health.route import health
from iam_watcher.ui.app import app

__all__ = ["app"]

app.include_router(health)
