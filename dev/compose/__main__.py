"""`make compose`: build and start docker-compose.yaml, and say how to use it.

Exit status: 0 if every service is healthy, 1 if not, 130 after Ctrl-C. The services go on after the end of
this program. It needs no package of this project.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from dev.compose.env_file import make_env_file, read_env_file

ROOT = Path(__file__).parents[2]
# The first one that has `content` of configs.
_OLDEST = (2, 23, 1)
_HEALTHY_SECONDS = 900
_PORT = "8080"


class ComposeError(RuntimeError):
    """The services could not be started; the message says what to do."""


def main() -> int:
    """Start the services and return the exit status."""
    try:
        _check_program()
        made = make_env_file(ROOT)
        if made:
            print(f"{ROOT / '.env'} is new: it has a password for each account.", flush=True)
        _start()
    except ComposeError as error:
        print(f"compose: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. What was started goes on: end it with docker compose down.", file=sys.stderr)
        return 130
    port = read_env_file(ROOT).get("AIRFLOW_PORT") or _PORT
    print(
        "\nEvery service is healthy.\n\n"
        f"  Airflow    http://localhost:{port}\n"
        f"  watchers   http://localhost:{port}/plugin/watchers\n"
        "  user       admin\n"
        f"  password   AIRFLOW_ADMIN_PASSWORD in {ROOT / '.env'}\n\n"
        "All watchers with a schedule are paused. In this folder:\n\n"
        "  docker compose exec scheduler airflow dags test disable_inactive_users -c '{\"dry_run\": true}'\n"
        "  docker compose logs --follow worker\n"
        "  docker compose down              ends the services and keeps their data\n"
        "  docker compose down --volumes    deletes the data too: rows, undo records, archives"
    )
    return 0


def _check_program() -> None:
    """Check that Docker, its engine and a Compose that is new enough are here.

    Raises:
        ComposeError: One is not.
    """
    if shutil.which("docker") is None:
        raise ComposeError("there is no docker here. Install Docker, or use make cluster, which needs none.")
    done = subprocess.run(
        ["docker", "compose", "version", "--short"], capture_output=True, text=True, check=False
    )
    version = re.match(r"v?(\d+)\.(\d+)\.(\d+)", done.stdout.strip())
    oldest = ".".join(map(str, _OLDEST))
    if done.returncode or version is None:
        raise ComposeError(f"`docker compose` does not work. Install the Compose plugin, {oldest} or newer.")
    if tuple(map(int, version.groups())) < _OLDEST:
        raise ComposeError(f"Docker Compose is {done.stdout.strip()}, expected {oldest} or newer. Update it.")
    engine = subprocess.run(["docker", "info"], capture_output=True, text=True, check=False)
    if engine.returncode:
        reason = (engine.stderr.strip() or engine.stdout.strip()).splitlines()[-1]
        raise ComposeError(f"the Docker engine does not answer: {reason}. Start it, then run this again.")


def _start() -> None:
    """Build the image, start the services and wait until they are healthy.

    Raises:
        ComposeError: Compose failed; it has said why.
    """
    up = ["up", "--build", "--detach", "--wait", "--wait-timeout", str(_HEALTHY_SECONDS)]
    if subprocess.run(["docker", "compose", *up], cwd=ROOT, check=False).returncode:
        subprocess.run(["docker", "compose", "ps", "--all"], cwd=ROOT, check=False)
        raise ComposeError(
            "not every service became healthy (the reason is above). See docker compose logs <service>."
        )


if __name__ == "__main__":
    sys.exit(main())
