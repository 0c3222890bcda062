"""Runs Percona's pt-archiver, from Debian's percona-toolkit."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

from dev.processes import ProcessError, require

if TYPE_CHECKING:
    from dev.servers import MariaDB

# A purge as in its manual.
AS_IN_ITS_MANUAL = ("--limit=1000", "--commit-each")

# Its fastest options with short transactions.
TUNED = ("--bulk-delete", "--limit=1000", "--commit-each", "--primary-key-only")


def pt_archiver(server: MariaDB, days: int, *options: str, purge: bool = True) -> float:
    """Delete old rows of policy_audit, and return the seconds of the whole run.

    Args:
        server: where.
        days: as our older_than_days.
        options: more of them.
        purge: only delete. Otherwise, `options` say where the rows are written.

    Raises:
        ProcessError: it failed.
    """
    # Not as an argument: every user of the machine can read those.
    account = server.folder / "account.cnf"
    account.touch(mode=0o600)
    account.write_text(f"[client]\nuser={server.admin_user}\npassword={server.admin_password}\n")
    source = f"F={account},h={server.host},P={server.port},D=iam,t=policy_audit"
    began = time.monotonic()
    done = subprocess.run(
        [
            require("pt-archiver", "percona-toolkit"),
            f"--source={source}",
            f"--where=deletedAt < NOW() - INTERVAL {days} DAY AND deletedAt >= '1000-01-01'",
            "--no-check-charset",
            "--no-version-check",
            *(["--purge"] if purge else []),
            *options,
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ProcessError(f"pt-archiver failed: {done.stderr}")
    return time.monotonic() - began
