"""What the doctor found on a machine, stored in Airflow's database for the doctors of the other machines."""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import iam_watcher
from iam_watcher import settings
from iam_watcher.airflow_internals import deployment
from iam_watcher.archive.location import configured_location
from iam_watcher.doctor.marks import KEPT, remove_files
from iam_watcher.errors import DeploymentIdError, JobArgumentError, SettingsError
from iam_watcher.lock.deployment import deployment_id, standby_delay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sqlalchemy.orm import Session

    from iam_watcher.doctor.marks import Marks

VARIABLE = "iam_watcher_doctor_"  # and the name of the machine
ABOUT = "What the doctor of iam-watcher found on a machine. It is compared with other machines for an hour."
HEARTBEAT_WITHIN = timedelta(minutes=5)  # of a component that runs; more than its clock may differ


@dataclass(frozen=True)
class Machine:
    """What the doctor found on a machine. It has no secret.

    Attributes:
        host: the name of the machine in Airflow.
        at: when, in seconds since 1970, by the clock of Redis if Redis answers.
        mark: of this run of the doctor, see `Marks`.
        marked: the archive locations that have the mark.
        redis_ahead: connection of a Redis that has the mark -> seconds by which its clock is ahead.
        plugin: the version of iam-watcher, and a digest of its files.
        deployment_id: "" if it is missing or not valid, as for the next ones.
        standby_delay: in seconds.
        settings_file: a digest of its values.
        archive: `[iam_watcher] archive`.
        faults: the checks that found something wrong.
    """

    host: str
    at: float
    mark: str
    marked: Sequence[str] = ()
    redis_ahead: Mapping[str, float] = field(default_factory=dict)
    plugin: str = ""
    deployment_id: str = ""
    standby_delay: str = ""
    settings_file: str = ""
    archive: str = ""
    faults: Sequence[str] = ()

    @classmethod
    def read(cls, text: str) -> Machine | None:
        """Return what `as_text` of this or another version returned; None if the text is not readable."""
        known = {one.name for one in fields(cls)}
        try:
            return cls(**{name: value for name, value in json.loads(text).items() if name in known})
        except (AttributeError, TypeError, ValueError):
            return None

    def as_text(self) -> str:
        """Return the machine as JSON."""
        return json.dumps(asdict(self))


def this_machine(marks: Marks, faults: Iterable[str]) -> Machine:
    """Return what this machine has.

    Args:
        marks: what this run of the doctor left.
        faults: the checks that found something wrong.
    """
    return Machine(
        host=deployment.host(),
        at=time.time() + next(iter(marks.redis_ahead.values()), 0.0),
        mark=marks.mark,
        marked=list(marks.archives),
        redis_ahead=dict(marks.redis_ahead),
        plugin=f"{iam_watcher.__version__} with the files {_digest_of_files()}",
        deployment_id=_valid(deployment_id),
        standby_delay=_valid(lambda: f"{standby_delay().total_seconds():.0f}"),
        settings_file=_valid(_digest_of_settings),
        archive=_valid(lambda: configured_location() or ""),
        faults=list(faults),
    )


def exchange(here: Machine, *, with_workers: bool) -> tuple[list[Machine], dict[str, set[str]]]:
    """Store what this machine has, in place of its last result, and return what the other machines have.

    Results that are older than `KEPT` are removed, with their marks.

    Args:
        here: this machine.
        with_workers: tasks run on machines that stay, such as Celery workers.

    Returns:
        The other machines with a result, and name -> components of those that have none.

    Raises:
        SQLAlchemyError: this machine can't use Airflow's database.
    """
    name, others, old = VARIABLE + here.host, [], []
    with deployment.metadata_session() as session:
        for key, text in deployment.plain_variables(session, VARIABLE).items():
            found = Machine.read(text)
            if found is None:
                continue
            if key == name or abs(here.at - found.at) > KEPT.total_seconds():
                old.append(found)
                deployment.delete_variable(session, key)
            else:
                others.append(found)
        deployment.store_plain_variable(session, name, here.as_text(), ABOUT)
        running = _running(session, with_workers=with_workers)
    for one in old:
        remove_files(one.mark, set(one.marked).intersection(here.marked))
    known = {here.host, *(one.host for one in others)}
    return others, {host: components for host, components in running.items() if host not in known}


def _running(session: Session, *, with_workers: bool) -> dict[str, set[str]]:
    now = datetime.now(UTC)
    found: dict[str, set[str]] = {}
    for host, component in deployment.components_since(session, now - HEARTBEAT_WITHIN):
        found.setdefault(host, set()).add(component)
    if with_workers:
        for host in deployment.hosts_of_tasks_since(session, now - KEPT):
            found.setdefault(host, set()).add("worker")
    return found


def _valid(value: Callable[[], str]) -> str:
    """Return a value, or "" if it is not valid: another check has reported that."""
    with suppress(DeploymentIdError, JobArgumentError, SettingsError):
        return value()
    return ""


def _digest_of_settings() -> str:
    path = settings.find()
    values = settings.Settings() if path is None else settings.load(path)
    return hashlib.sha256(values.model_dump_json().encode()).hexdigest()


def _digest_of_files() -> str:
    """Return a digest of the plugin's Python files, wherever they are on this machine."""
    top = Path(iam_watcher.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(top.rglob("*.py")):
        name = path.relative_to(top).as_posix()
        if not name.startswith("example_dags/"):  # only in the wheel
            digest.update(f"{name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
