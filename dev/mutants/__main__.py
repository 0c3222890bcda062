"""`make mutants`: change the core a little, one change at a time, and see whether a test notices.

A sample of all possible changes is tried, the same for the same MUTANTS_SEED. For each change the tests
that reach its line run, the quickest first, until one fails. A change that no test notices is either a
test that is missing, or code that nothing needs, or it is explained in explained.toml.

    MUTANTS=100            how many changes
    MUTANTS_SEED=1         which ones
    MUTANTS_ONLY=lock/     only files whose path has this text
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from dev.mutants.mutations import Mutation, mutations

ROOT = Path(__file__).parents[2]
RUN = ROOT / ".run" / "mutants"
CORE = ("plugins/iam_watcher/jobs", "plugins/iam_watcher/lock", "plugins/iam_watcher/schedule")
TESTS = ("tests/unit", "tests/contract", "tests/integration", "tests/dags")
COPIED = ("plugins", "tests", "dev", "include", "dags", "docs", "bench", "pyproject.toml", "README.md")
WORKERS = 2
LONGEST = 40.0  # seconds of tests for one change, by their usual time
TIMES = 5  # a test that takes so much longer than usual hangs, and that is noticed
WANTED = 0.95
NOTICED, SURVIVED, UNREACHED = "noticed", "SURVIVED", "reached by no test"


def main() -> int:
    """Return 0 if enough changes were noticed or explained."""
    paths = sorted(str(path.relative_to(ROOT)) for folder in CORE for path in (ROOT / folder).rglob("*.py"))
    only = os.environ.get("MUTANTS_ONLY", "")
    found = [m for path in paths if only in path for m in mutations(ROOT, path)]
    explained = tomllib.loads((Path(__file__).parent / "explained.toml").read_text(encoding="utf-8"))
    chosen = random.Random(int(os.environ.get("MUTANTS_SEED", "1"))).sample(  # noqa: S311  a sample, no secret
        found, min(len(found), int(os.environ.get("MUTANTS", "100")))
    )
    reach = _reach()
    print(f"{len(chosen)} of {len(found)} changes, {len(reach['seconds'])} tests", flush=True)
    copies: SimpleQueue[Path] = SimpleQueue()
    for number in range(WORKERS):
        copies.put(_copy(number))
    outcomes: dict[Mutation, str] = {}
    with ThreadPoolExecutor(WORKERS) as pool:
        for mutation, outcome in zip(
            chosen, pool.map(lambda m: _outcome(m, reach, copies), chosen), strict=True
        ):
            outcomes[mutation] = outcome
            if outcome != NOTICED:
                why = explained.get(mutation.name)
                print(f"{outcome}: line {mutation.line}, {mutation.name}" + (f"\n    {why}" if why else ""))
    return _verdict(outcomes, explained)


def _verdict(outcomes: dict[Mutation, str], explained: dict[str, str]) -> int:
    noticed = sum(outcome == NOTICED for outcome in outcomes.values())
    known = sum(m.name in explained for m, outcome in outcomes.items() if outcome != NOTICED)
    share = noticed / max(1, len(outcomes) - known)
    print(f"noticed {noticed} of {len(outcomes)}, explained {known}: {share:.1%}, target {WANTED:.0%}")
    return 0 if share >= WANTED else 1


def _outcome(mutation: Mutation, reach: Any, copies: SimpleQueue[Path]) -> str:
    tests = _tests(mutation, reach)
    if not tests:
        return UNREACHED
    copy = copies.get()
    changed = copy / mutation.path
    source = changed.read_text(encoding="utf-8")
    usual = sum(reach["seconds"][test] for test in tests)
    try:
        changed.write_text(mutation.applied(source), encoding="utf-8")
        done = subprocess.run(
            _pytest("-x", "-q", "--no-header", "-p", "no:cacheprovider", *tests),
            cwd=copy, env=_environment(copy), capture_output=True, timeout=60 + TIMES * usual, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return NOTICED
    finally:
        changed.write_text(source, encoding="utf-8")
        copies.put(copy)
    return SURVIVED if done.returncode == 0 else NOTICED


def _tests(mutation: Mutation, reach: Any) -> list[str]:
    """Return the tests that reach the change, the quickest first, as many as fit into the time."""
    lines = reach["lines"].get(mutation.path, {})
    tests = set(lines.get(str(mutation.line), ()))
    if not tests:  # A constant is read at import: its tests are those of the lines that use it.
        name = mutation.scope.split(".")[0]
        for path, of_path in reach["lines"].items():
            source = (ROOT / path).read_text(encoding="utf-8").splitlines()
            for line, reached in of_path.items():
                if name in source[int(line) - 1]:
                    tests.update(reached)
    chosen: list[str] = []
    seconds = 0.0
    for test in sorted(tests - set(reach["failed"]), key=lambda test: reach["seconds"][test]):
        seconds += reach["seconds"][test]
        if chosen and seconds > LONGEST:
            break
        chosen.append(test)
    return chosen


def _reach() -> Any:
    """Return what the tests reach, measured once for each state of the code and its tests."""
    digest = hashlib.sha256()
    for folder in ("plugins", "tests", "dev"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    file = RUN / f"reach-{digest.hexdigest()[:16]}.json"
    if not file.exists():
        print("running the tests once, to see which lines they reach", flush=True)
        RUN.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            _pytest("-q", "--no-header", "-m", "not e2e", "-p", "dev.mutants.reach", *TESTS),
            cwd=ROOT, env={**_environment(ROOT), "MUTANTS_REACH": str(file)}, check=False,
        )  # fmt: skip
    return json.loads(file.read_text(encoding="utf-8"))


def _copy(number: int) -> Path:
    copy = RUN / f"copy-{number}"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, copy / name)
    (copy / ".venv").symlink_to(ROOT / ".venv")
    return copy


def _pytest(*arguments: str) -> list[str]:
    return [sys.executable, "-B", "-m", "pytest", *arguments]


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(folder)}


if __name__ == "__main__":
    sys.exit(main())
