"""Makes watcher files of the jobs of other systems. Plain Python, no Airflow.

`python -m iam_watcher.importer crontab FILE` (also `anacrontab`, `dkron`, `kubernetes`, `iam-watcher`) writes
a file for each job, and prints the outcome of each: translated, translated with a difference, or not
translated, and why. No text of a job becomes code in a file: values are written by `repr()` only.
"""

from __future__ import annotations
