"""Sets the clock of a Python process, and of those that it forks, ahead by CLOCK_AHEAD seconds.

Python imports it at its start if this folder is on PYTHONPATH. So every part of an Airflow, and every
task of it, tells the time of a machine whose clock is wrong; intervals (time.monotonic) stay right.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import time_machine

ahead = timedelta(seconds=float(os.environ["CLOCK_AHEAD"]))
time_machine.travel(datetime.now(UTC) + ahead, tick=True).start()
