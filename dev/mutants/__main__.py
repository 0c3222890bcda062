"""`make mutants`: change the core a little, one change at a time, and see whether a test notices.

A sample of all possible changes is tried, the same for the same MUTANTS_SEED. For each change the tests
that reach its line run, the quickest first, until one fails; if none does on MariaDB, those that `make test`
runs on MySQL, too. A change that no test notices is either a test that is missing, or code that nothing
needs, or it is explained in explained.toml.

    MUTANTS=100            how many changes
    MUTANTS_SEED=1         which ones
    MUTANTS_ONLY=lock/     only files whose path has this text
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from dev.mutants.mutations import Mutation, mutations
from dev.mutants.selection import SERVERS, Selection, environment, pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[2]
RUN = ROOT / ".run" / "mutants"
PACKAGE = "plugins/iam_watcher"
CORE = (
    "accounts",
    "archive",
    "arguments.py",
    "database",
    "jobs",
    "lock",
    "schedule",
    "task_variable.py",
    "walk",
)
WORKERS = 2
TIMES, PATIENCE = 5, 60.0  # a test that takes so many times as long, and so many seconds, hangs
WANTED = 0.95
NO_TEST = ""
NOTICED, SURVIVED, UNREACHED = "noticed", "SURVIVED", "reached by no test"


def main() -> int:
    """Return 0 if enough changes were noticed or explained."""
    explained = tomllib.loads((Path(__file__).parent / "explained.toml").read_text(encoding="utf-8"))
    found = [mutation for path in core() for mutation in mutations(ROOT, path)]
    if gone := sorted(set(explained) - {mutation.name for mutation in found}):
        print(
            "explained.toml names changes that can't be made any more; correct or remove them:",
            *gone,
            sep="\n",
        )
        return 1
    found = [mutation for mutation in found if os.environ.get("MUTANTS_ONLY", "") in mutation.path]
    chosen = random.Random(int(os.environ.get("MUTANTS_SEED", "1"))).sample(  # noqa: S311  a sample, no secret
        found, min(len(found), int(os.environ.get("MUTANTS", "100")))
    )
    selections = [Selection(ROOT, RUN / "reach", server) for server in SERVERS]
    print(f"{len(chosen)} of {len(found)} changes, {len(selections[0].seconds)} tests", flush=True)
    copies: SimpleQueue[Path] = SimpleQueue()
    for number in range(WORKERS):
        copies.put(_copy(number))
    outcomes: dict[Mutation, str] = {}
    with ThreadPoolExecutor(WORKERS) as pool:
        results = pool.map(lambda mutation: _outcome(mutation, selections, copies), chosen)
        for number, (mutation, outcome) in enumerate(zip(chosen, results, strict=True), 1):
            outcomes[mutation] = outcome
            if number % 10 == 0:
                print(f"{number} of {len(chosen)} changes tried", flush=True)
            if outcome != NOTICED:
                why = explained.get(mutation.name)
                print(f"{outcome}: line {mutation.line}, {mutation.name}" + (f"\n    {why}" if why else ""))
    return _verdict(outcomes, explained)


def core() -> list[str]:
    """Return the paths of the files that are changed."""
    parts = [ROOT / PACKAGE / name for name in CORE]
    files = [file for part in parts for file in (part.rglob("*.py") if part.is_dir() else [part])]
    return sorted(str(file.relative_to(ROOT)) for file in files)


def _verdict(outcomes: dict[Mutation, str], explained: dict[str, str]) -> int:
    noticed = sum(outcome == NOTICED for outcome in outcomes.values())
    known = sum(m.name in explained for m, outcome in outcomes.items() if outcome != NOTICED)
    share = noticed / max(1, len(outcomes) - known)
    print(f"noticed {noticed} of {len(outcomes)}, explained {known}: {share:.1%}, target {WANTED:.0%}")
    return 0 if share >= WANTED else 1


def _outcome(mutation: Mutation, selections: Sequence[Selection], copies: SimpleQueue[Path]) -> str:
    copy = copies.get()
    outcome = UNREACHED
    try:
        for selection in selections:
            if tests := selection.tests_for(mutation):
                outcome = SURVIVED
                if _is_noticed(copy, mutation, selection, tests):
                    return NOTICED
        return outcome
    finally:
        copies.put(copy)


def _is_noticed(copy: Path, mutation: Mutation, selection: Selection, tests: list[str]) -> bool:
    """Return whether a test fails because of the change, and not by chance or on a slow machine."""
    while tests:
        with _changed(copy / mutation.path, mutation):
            failed = _first_failure(copy, selection, tests)
            if failed is None:
                return False
            if failed != NO_TEST and _first_failure(copy, selection, [failed]) is not None:
                return True
        if failed == NO_TEST:
            failed = _first_failure(copy, selection, tests)
            if failed == NO_TEST:
                print(f"Without a change too, some of these hang or are not there: {tests}", flush=True)
            if failed in {None, NO_TEST}:
                return failed is None
        tests = [test for test in tests if test != failed]
    return False


@contextmanager
def _changed(file: Path, mutation: Mutation) -> Iterator[None]:
    source = file.read_text(encoding="utf-8")
    file.write_text(mutation.applied(source), encoding="utf-8")
    try:
        yield
    finally:
        file.write_text(source, encoding="utf-8")


def _first_failure(copy: Path, selection: Selection, tests: list[str]) -> str | None:
    """Return the first test that fails, NO_TEST if one hangs or none can run, or None."""
    usual = [selection.seconds[test] for test in tests]
    options = (
        *("-x", "-q", "--no-header", "-p", "no:cacheprovider", "-o", "faulthandler_exit_on_timeout=true"),
        *("-o", f"faulthandler_timeout={PATIENCE + TIMES * max(usual)}"),
    )
    try:
        done = subprocess.run(
            pytest(*options, *tests),
            cwd=copy, env=environment(copy, selection.server), capture_output=True, text=True,
            timeout=2 * PATIENCE + TIMES * sum(usual), check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return NO_TEST
    if done.returncode == 0:
        return None
    said = {line.partition(" ")[2].partition(" - ")[0] for line in done.stdout.splitlines()}
    return next((test for test in tests if test in said), NO_TEST)


def _copy(number: int) -> Path:
    copy = RUN / f"copy-{number}"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    (copy / ".venv").symlink_to(ROOT / ".venv")
    # Some tests have a case for each file of the repository.
    subprocess.run(["git", "init", "--quiet", copy], check=True)
    return copy


if __name__ == "__main__":
    sys.exit(main())
