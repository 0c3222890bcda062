"""An empty folder for one run of `make demo` or `make run`, which no other run can use."""

from __future__ import annotations

import fcntl
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dev.processes import ProcessError, end_leftovers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def fresh_folder(folder: Path) -> Iterator[Path]:
    """Empty a folder, after ending what a killed earlier run left there, and keep others out.

    Raises:
        ProcessError: Another run is using the folder.
    """
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside the folder, as the folder itself is deleted. The kernel unlocks it when we die.
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ProcessError(f"{folder} is in use by another run; stop that one first") from None
        if folder.exists():
            end_leftovers(folder)
            shutil.rmtree(folder)
        folder.mkdir(mode=0o700)
        yield folder
