"""Reads cluster.env: Airflow's settings in a cluster, which docker-compose.yaml uses too."""

from __future__ import annotations

import re

from dev.airflow import ROOT

FILE = ROOT / "cluster.env"


def cluster_settings() -> dict[str, str]:
    """Return the variables of cluster.env.

    Raises:
        ValueError: A line is neither empty, a comment nor NAME=value.
    """
    found = {}
    for number, line in enumerate(FILE.read_text().splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        match = re.fullmatch(r"(AIRFLOW__\w+?__\w+)=(\S+)", line)
        if match is None:
            raise ValueError(f"{FILE.name}:{number}: expected AIRFLOW__SECTION__OPTION=value, not {line!r}")
        found[match[1]] = match[2]
    return found
