"""Names for watchers, made of commands and of the names that jobs have elsewhere."""

from __future__ import annotations

import re

_LONGEST = 60
# A part of a command line that does nothing by itself, and words before a program.
_PREPARES = re.compile(r"\s*(cd|test|\[|export|source|\.|umask|sleep|set|\w+=\S*$)(\s|$)")
_BEFORE = re.compile(
    r"\A(\s*(sudo|nice(\s+-n\s+\S+)?|ionice(\s+-[cn]\s+\S+)*|env|exec|nohup|timeout\s+\S+"
    r"|flock(\s+-\S+)*\s+\S+|-\S+|\w+=\S*)\s+)+(?=\S)"
)


def of_command(command: str) -> str:
    """Return a name for a shell command: its program and arguments, without folders and redirections."""
    parts = [
        part
        for part in re.split(r"&&|\|\||[;|&\n{}()]|\d?[<>]", re.sub(r"\$\([^)]*\)", "", command))
        if part.strip()
    ]
    part = next((part for part in parts if not _PREPARES.match(part)), parts[0] if parts else "")
    words = _BEFORE.sub("", part, count=1).split()
    return of_text(" ".join(word.rstrip("/").rpartition("/")[2] for word in words))


def of_text(text: str) -> str:
    """Return a text as a name: ASCII letters, digits and underscores."""
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:_LONGEST].strip("_")
    return name if name[:1].isalpha() else f"job_{name}".rstrip("_")


def unique(name: str, taken: set[str]) -> str:
    """Return the name, or with a number behind it where it is taken; it is taken then."""
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    taken.add(found)
    return found
