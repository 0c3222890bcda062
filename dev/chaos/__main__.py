"""`make chaos`: a cluster loses parts for 15 minutes, or CHAOS_SECONDS, and a witness judges what happened.

Two deployments share a Redis and a MariaDB: a cluster (dev/cluster) that the faults hit, and a second
Airflow. They run watchers of each kind, while clients change the same tables. After each fault, the program
waits until each kind of watcher has worked again. At the end it waits for quiet and reads the record
(dev/chaos/record.py). The seed is printed, and CHAOS_SEED repeats the choices, but not the timing.

CHAOS_FAULTS=Redis,SIGSTOP takes only the faults with one of these texts in their names.
CHAOS_BREAK=database_lock, once_per_tick or claimant breaks the code on purpose. The verdict must then be
FAILED.

Exit status: 0 if the last line is the verdict "held", 1 if not, 130 after Ctrl-C.

All steps of one run, in order, and its report: hence the length.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from dev.airflow import ROOT
from dev.chaos.clients import Clients
from dev.chaos.faults import FAULTS, Fault, NotDone
from dev.chaos.judge import Verdict, judge
from dev.chaos.periods import PERIODS
from dev.chaos.place import BREAKS, Place, open_place
from dev.chaos.record import left_in_queue, read
from dev.cluster.cluster import WORKERS
from dev.folder import fresh_folder
from dev.processes import ProcessError, interruptible
from dev.sessions import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FOLDER = ROOT / ".run" / "chaos"
SECONDS = 900
# Before the first fault and after each, those must work that run at least once a minute. All kinds must have
# worked at the end, and the scheduled times of all of them are judged.
KINDS = ("cron", "every", "after", "bash", "deferred", "purge", "user", "rows")
QUICK_KINDS = ("cron", "purge", "rows")
TWO_AT_A_TIME = 0.25
_FIRST_SECONDS = 600
_QUIET_SECONDS = 400
_SETTLED = 30.0  # seconds before the watchers are paused: later scheduled times may have no run yet
_LAST_STEPS = (
    "SELECT REPLACE(watcher, 'chaos_', ''), UNIX_TIMESTAMP(MAX(at)) FROM chaos_step"
    " WHERE what = 'end' GROUP BY 1"
)
_LAST_CHANGES = "SELECT kind, UNIX_TIMESTAMP(MAX(at)) FROM chaos_log GROUP BY 1"
_WORKED = "SELECT DISTINCT worker FROM chaos_step WHERE what = 'end' AND UNIX_TIMESTAMP(at) > %s"
_LEFT = (
    "SELECT (SELECT COUNT(*) FROM chaos_purge WHERE createdAt < NOW() - INTERVAL 30 DAY)"
    " + (SELECT COUNT(*) FROM chaos_rows WHERE status NOT IN ('done', 'failed'))"
)


def main() -> int:
    """Run the chaos and return the exit status."""
    parser = argparse.ArgumentParser(prog="make chaos", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where everything is kept")
    arguments = parser.parse_args()
    seconds = float(os.environ.get("CHAOS_SECONDS") or SECONDS)
    seed = int(os.environ.get("CHAOS_SEED") or secrets.randbelow(10**9))
    broken = [name for name in os.environ.get("CHAOS_BREAK", "").split(",") if name]
    wanted = os.environ.get("CHAOS_FAULTS", "")
    faults = [fault for fault in FAULTS if any(part in fault.name for part in wanted.split(","))]
    if not faults:
        names = "\n".join(f"  {fault.name}" for fault in FAULTS)
        print(
            f"CHAOS_FAULTS={wanted!r} is not valid. Use a part of one of these names:\n{names}",
            file=sys.stderr,
        )
        return 1
    if not set(broken) <= BREAKS.keys():
        print(f"CHAOS_BREAK={','.join(broken)} is not valid. Use {', '.join(BREAKS)}.", file=sys.stderr)
        return 1
    told = f", broken on purpose: {', '.join(broken)}" if broken else ""
    print(f"chaos: {seconds:g} s, seed {seed}{told}", flush=True)
    try:
        with (
            interruptible(),
            fresh_folder(arguments.folder) as folder,
            open_place(folder, broken) as place,
        ):
            return _Chaos(place, random.Random(seed), seconds, faults).run()  # noqa: S311  a repeatable run
    except KeyboardInterrupt:
        return 130
    except ProcessError as error:
        print(error, file=sys.stderr)
        return 1


class _Chaos:
    def __init__(self, place: Place, rng: random.Random, seconds: float, faults: list[Fault]) -> None:
        self._place = place
        self._rng = rng
        self._seconds = seconds
        self._gaps: defaultdict[str, list[float]] = defaultdict(list)
        self._late: list[str] = []
        self._never: list[str] = []
        self._faults = faults
        self._left: list[Fault] = []

    def run(self) -> int:
        """Inject faults, wait for quiet, print the report; return the exit status."""
        began = time.monotonic()
        clients = Clients(self._place.mariadb, self._rng.getrandbits(32))
        clients.start()
        wait_until(self._parsed, _FIRST_SECONDS, 1)
        self._unpause()
        self._say(began, "waiting until the watchers work")
        if late := self._await_work(QUICK_KINDS, 0.0, _FIRST_SECONDS):
            self._late.append(f"before the first fault: {', '.join(late)} did not work")
        since, began = time.time(), time.monotonic()
        last_fault = since
        try:
            while time.monotonic() - began < self._seconds:
                faults = [self._next()]
                if self._rng.random() < TWO_AT_A_TIME:
                    faults.append(self._next())
                for fault in faults:
                    try:
                        hit = fault.inject(self._place, self._rng)
                    except NotDone as error:
                        hit = f"not done: {error}"
                    except TimeoutError as error:
                        hit = str(error)
                        self._late.append(f"{fault.name}: {error}")
                    self._say(began, f"{fault.name}: {hit}")
                last_fault = time.time()
                self._recover(began, faults, last_fault)
        finally:
            clients.stop()
        until = self._quiet(began, last_fault)
        verdict = judge(
            read(self._place),
            since=since,
            until=until,
            young=clients.young,
            workers=WORKERS,
            last_fault=last_fault,
        )
        return self._report(verdict)

    def _next(self) -> Fault:
        """Return the next kind of fault: in the order of FAULTS first, then shuffled."""
        if not self._left:
            self._left = list(self._faults)
            if self._gaps:
                self._rng.shuffle(self._left)
        return self._left.pop(0)

    def _recover(self, began: float, faults: list[Fault], over: float) -> None:
        """Wait until each kind has worked since the faults were over."""
        bound = max(fault.bound for fault in faults)
        waits = cpu_waits()
        late = self._await_work(QUICK_KINDS, over, lambda: bound + cpu_waits() - waits)
        gap = time.time() - over
        for fault in faults:
            self._gaps[fault.name].append(gap)
        self._say(began, f"  {gap:.0f} s until the watchers worked again (at most {bound})")
        if late:
            names = " and ".join(fault.name for fault in faults)
            self._late.append(f"{names}: {', '.join(late)} after {gap:.0f} s")

    def _await_work(
        self, kinds: Iterable[str], since: float, seconds: float | Callable[[], float]
    ) -> list[str]:
        """Wait until each kind of watcher has worked since a moment; return those that have not in time."""
        allowed = seconds if callable(seconds) else lambda: seconds
        began = time.monotonic()
        while missing := self._not_worked(kinds, since):
            if time.monotonic() - began > allowed():
                return missing
            time.sleep(1)
        return []

    def _not_worked(self, kinds: Iterable[str], since: float) -> list[str]:
        last = dict([*self._place.rows(_LAST_STEPS), *self._place.rows(_LAST_CHANGES)])
        return [kind for kind in kinds if float(last.get(kind, 0)) <= since]

    def _quiet(self, began: float, last_fault: float) -> float:
        """Wait for the rows, pause the watchers, wait until nothing runs; return the last moment."""
        place = self._place
        self._say(began, "no more faults; waiting until all rows are done and each worker has worked")

        def settled() -> bool:
            return not place.rows(_LEFT)[0][0] and self._all_worked(last_fault) and not self._idle_kinds()

        wait_until(settled, _QUIET_SECONDS, 2)
        self._never += self._idle_kinds()
        until = time.time() - _SETTLED
        self._say(began, "pausing each watcher as soon as no run of it is active")
        wait_until(lambda: self._paused() and not left_in_queue(place), _QUIET_SECONDS, 2)
        return until

    def _paused(self) -> bool:
        """Pause the watchers without an active run; return whether all are paused, and no run is active.

        The others stay unpaused, or are so again: Airflow starts no task of a paused DAG.
        """
        done = True
        for airflow in (self._place.cluster, self._place.other):
            states = "state=running&state=queued"
            runs = airflow.api(f"/dags/~/dagRuns?limit=100&{states}")["dag_runs"]
            active = {run["dag_id"] for run in runs}
            for dag in airflow.api("/dags?limit=100")["dags"]:
                if dag["is_paused"] == (dag["dag_id"] in active):
                    done = False
                    is_paused = dag["dag_id"] not in active
                    airflow.api(f"/dags/{dag['dag_id']}", {"is_paused": is_paused}, method="PATCH")
            done = done and not active
        return done

    def _parsed(self) -> bool:
        return all(
            airflow.api("/dags")["total_entries"] == number
            for airflow, number in ((self._place.cluster, len(KINDS) + 1), (self._place.other, 1))
        )

    def _unpause(self) -> None:
        for airflow in (self._place.cluster, self._place.other):
            for dag in airflow.api("/dags?limit=100")["dags"]:
                airflow.api(f"/dags/{dag['dag_id']}", {"is_paused": False}, method="PATCH")

    def _idle_kinds(self) -> list[str]:
        return self._not_worked(KINDS, 0.0)

    def _all_worked(self, since: float) -> bool:
        return {worker for (worker,) in self._place.rows(_WORKED, since)} >= set(WORKERS)

    def _say(self, began: float, what: str) -> None:
        print(f"{time.monotonic() - began:6.0f} {what}", flush=True)

    def _report(self, verdict: Verdict) -> int:
        bounds = {fault.name: fault.bound for fault in FAULTS}
        print(f"\n{'fault':44} times  longest gap  at most")
        for name, gaps in self._gaps.items():
            print(f"{name:44} {len(gaps):5} {max(gaps):10.0f} s {bounds[name]:6} s")
        ticks = verdict.ticks
        print(
            f"\nscheduled times of {len(PERIODS)} watchers: {ticks['due']} due, {ticks['run']} run, "
            f"{ticks['skipped']} skipped with a reason, {ticks['failed']} failed, "
            f"{ticks['missed']} missed without"
        )
        for reason, number in verdict.reasons.most_common():
            print(f"  {number:4} {reason}")
        print(f"steps beside a new lock holder, which a lease can't exclude: {verdict.beside}")
        faults = {
            **verdict.faults,
            "not recovered within the bound": self._late,
            "kind of watcher that never worked": self._never,
        }
        for what, texts in faults.items():
            print(f"{what}: {len(texts)}")
            for text in texts[:10]:
                print(f"    {text}")
        wrong = [what for what, texts in faults.items() if texts]
        print(f"verdict: {'FAILED: ' + ', '.join(wrong) if wrong else 'held'}")
        return int(bool(wrong))


def cpu_waits() -> float:
    """Return the seconds so far in which some process had to wait for a CPU; 0 if the kernel doesn't say.

    A bound stretches by what the machine is short of.
    """
    try:
        some = Path("/proc/pressure/cpu").read_text().splitlines()[0]
    except OSError:
        return 0.0
    return int(some.rpartition("total=")[2]) / 1_000_000


if __name__ == "__main__":
    sys.exit(main())
