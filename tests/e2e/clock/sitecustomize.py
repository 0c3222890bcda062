"""Sets the clock of a Python process, and of those that it forks, ahead by CLOCK_AHEAD seconds.

Python imports it at its start if this folder is on PYTHONPATH. So every part of an Airflow, every task of
it and its SQLite tell the time of a machine whose clock is wrong; intervals (time.monotonic) stay right.
"""

from __future__ import annotations

import os
import sqlite3
from datetime import UTC, datetime, timedelta

import time_machine

ahead = timedelta(seconds=float(os.environ["CLOCK_AHEAD"]))
time_machine.travel(datetime.now(UTC) + ahead, tick=True).start()

connect = sqlite3.connect


def connect_with_our_clock(*args, **kwargs):
    connection = connect(*args, **kwargs)
    # The scheduler asks its database whether a tick has come.
    connection.create_function("current_timestamp", 0, lambda: f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}")
    return connection


sqlite3.connect = sqlite3.dbapi2.connect = connect_with_our_clock
