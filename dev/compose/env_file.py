"""Makes .env, the secrets of docker-compose.yaml, with the command that .env.example gives."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_COMMAND = re.compile(r"^#   (awk .+) >\.env$", re.MULTILINE)


def make_env_file(folder: Path) -> bool:
    """Make .env beside .env.example, for this user alone; return False if it was there already.

    Raises:
        ValueError: .env.example has no such command, or more than one.
        subprocess.CalledProcessError: The command failed.
    """
    path = folder / ".env"
    if path.exists():
        return False
    commands = _COMMAND.findall((folder / ".env.example").read_text())
    if len(commands) != 1:
        raise ValueError(f".env.example has {len(commands)} commands that make .env, expected one")
    made = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands[0]], cwd=folder, stdout=subprocess.PIPE, check=True
    ).stdout
    # Not over a file that somebody else made meanwhile: a database keeps the password of its first start.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(made)
    return True


def read_env_file(folder: Path) -> dict[str, str]:
    """Return the variables of .env."""
    lines = (folder / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if re.match(r"\w+=", line))
