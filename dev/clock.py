"""A wrong clock for the processes of one machine, by Debian's package faketime."""

from __future__ import annotations

from pathlib import Path

from dev.processes import ProcessError, require

_LIBRARIES = "*/faketime/libfaketimeMT.so.1"  # for processes with threads


def ahead(seconds: int) -> dict[str, str]:
    """Return the variables with which a process, and each that it starts, tells a time that is ahead.

    Intervals (time.monotonic) and the times of files stay right.

    Raises:
        ProcessError: faketime is not installed.
    """
    require("faketime", "faketime")
    library = next(Path("/usr/lib").glob(_LIBRARIES), None)
    if library is None:
        raise ProcessError(f"there is no /usr/lib/{_LIBRARIES}, which Debian's package faketime has")
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME": f"+{seconds}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
