"""Which tests may notice a change: those that reach it, as the plugin `reach` has seen it."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dev.mutants.mutations import Mutation

TESTS = ("tests/unit", "tests/contract", "tests/integration", "tests/dags")
# A database server, and which tests run on it, as in `make test`.
SERVERS = {"mariadb": "not e2e", "mysql": "every_server and not e2e"}
LONGEST = 40.0  # seconds of the first tests for one change, by their usual time
FURTHER = 160.0  # seconds of the further tests that run before a change counts as not noticed
AT_ONCE = 3  # processes of the first run: tests wait half of their time
CONTRACT = "tests/contract/"  # it holds the Lua scripts against a model of a lock
LUA = "redis.call("
WORKED = (0, 1, 5)  # pytest's exit status: all tests passed, some failed, or there are none
NOTHING: dict[str, Any] = {"seconds": {}, "failed": [], "lines": {}}


class Statement(NamedTuple):
    """A statement at the top of a file: the name it defines, and its lines."""

    path: str
    name: str
    first: int
    lines: list[str]


class Selection:
    """The tests that run on one database server, and the lines that each of them reaches.

    Args:
        root: of the project.
        kept: a folder for what was measured. A test file runs again only after it, the code, or what all
            tests share has changed.
        server: its name in IAM_WATCHER_DATABASE.
    """

    def __init__(self, root: Path, kept: Path, server: str) -> None:
        self.server = server
        self._root = root
        self.seconds: dict[str, float] = {}
        self._lines: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
        for file in self._measured(kept):
            found = json.loads(file.read_text(encoding="utf-8"))
            for test in found["failed"]:
                print(f"fails without a change, and so notices none: {test}")
                del found["seconds"][test]
            self.seconds |= found["seconds"]
            for path, lines in found["lines"].items():
                reached, inside = self._lines[path], _in_functions(root / path)
                for line, tests in lines.items():
                    if int(line) in inside:
                        reached[int(line)].update(self.seconds.keys() & tests)

    def tests_for(self, mutation: Mutation) -> list[str]:
        """Return the tests that may notice a change, in the order in which they run.

        What runs in another process counts as not reached: hence also the tests of the module's own test
        file. Of both the quickest come first, as many as fit into the time, and then further ones. All tests
        of the contract that reach a Lua script are among them.
        """
        reaching = self._of_lines(mutation.path, [mutation.line])
        reaching = reaching or self._within(mutation) or self._by_use(mutation)
        mirrored = self._of_command(mutation.path) | self._of_module(mutation.path)
        first = self._quickest(reaching, LONGEST) + self._quickest(mirrored - reaching, LONGEST)
        further = self._quickest(reaching - set(first), FURTHER)
        contract: set[str] = set()
        if LUA in (self._root / mutation.path).read_text(encoding="utf-8"):
            contract = {test for test in reaching - {*first, *further} if test.startswith(CONTRACT)}
        return first + further + self._quickest(contract, inf)

    def _quickest(self, tests: set[str], longest: float) -> list[str]:
        chosen: list[str] = []
        seconds = 0.0
        for test in sorted(tests, key=lambda test: (self.seconds[test], test)):
            seconds += self.seconds[test]
            if chosen and seconds > longest:
                break
            chosen.append(test)
        return chosen

    def _of_module(self, path: str) -> set[str]:
        return {test for test in self.seconds if test.partition("::")[0].endswith(f"/test_{Path(path).name}")}

    def _of_command(self, path: str) -> set[str]:
        """Return the tests of files that run a command line, which is another process."""
        if not path.endswith("/__main__.py"):
            return set()
        module = ".".join(Path(path).parts[1:-1])
        files = {test.partition("::")[0] for test in self.seconds}
        files = {file for file in files if f'"{module}"' in (self._root / file).read_text(encoding="utf-8")}
        return {test for test in self.seconds if test.partition("::")[0] in files}

    def _within(self, mutation: Mutation) -> set[str]:
        """Return the tests of the class or function: its default values and attributes are read at import."""
        node: Any = ast.parse((self._root / mutation.path).read_text(encoding="utf-8"))
        for name in mutation.scope.split("."):
            node = next((part for part in node.body if getattr(part, "name", None) == name), None)
            if node is None:
                return set()
        return self._of_lines(mutation.path, range(node.lineno, node.end_lineno + 1))

    def _by_use(self, mutation: Mutation) -> set[str]:
        """Return the tests of what uses a constant, or uses what uses it."""
        names, known = {mutation.scope.partition(".")[0]}, set[str]()
        while names:
            known |= names
            word = re.compile(rf"\b({'|'.join(map(re.escape, names))})\b")
            tests: set[str] = set()
            names = set()
            for statement in self._statements:
                at = [
                    number
                    for number, line in enumerate(statement.lines, statement.first)
                    if word.search(line)
                ]
                if at:
                    tests |= self._of_lines(statement.path, at)
                    names.add(statement.name)
            if tests:
                return tests
            names -= known
        return set()

    def _of_lines(self, path: str, lines: Iterable[int]) -> set[str]:
        reached = self._lines.get(path, {})
        return set().union(*(reached.get(line, ()) for line in lines))

    @cached_property
    def _statements(self) -> list[Statement]:
        found = []
        for path in list(self._lines):
            source = (self._root / path).read_text(encoding="utf-8")
            lines = source.splitlines()
            for node in ast.parse(source).body:
                target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
                name = getattr(node, "name", None) if target is None else ast.unparse(target)
                if name is not None:
                    within = lines[node.lineno - 1 : node.end_lineno]
                    found.append(Statement(path, name, node.lineno, within))
        return found

    def _measured(self, kept: Path) -> list[Path]:
        """Run the test files that have not run on this state of the code; return what all of them reach."""
        root = self._root
        files = sorted(path for folder in TESTS for path in (root / folder).rglob("test_*.py"))
        shared = hashlib.sha256()
        for folder in ("plugins", "tests", "dev"):
            for path in sorted((root / folder).rglob("*.py")):
                if path not in files and path.parent != Path(__file__).parent:
                    shared.update(path.read_bytes())
        measured: dict[str, Path] = {}
        for path in files:
            digest = hashlib.sha256(shared.digest() + path.read_bytes()).hexdigest()[:16]
            measured[str(path.relative_to(root))] = kept / f"{self.server}-{path.stem}-{digest}.json"
        if new := [file for file, result in measured.items() if not result.exists()]:
            print(
                f"running {len(new)} test files on {self.server}, to see which lines they reach", flush=True
            )
            kept.mkdir(parents=True, exist_ok=True)
            parts = [new[number::AT_ONCE] for number in range(AT_ONCE)]
            with ThreadPoolExecutor(AT_ONCE) as pool:
                results = pool.map(
                    self._reach, filter(None, parts), (kept / f"{n}.json" for n in range(AT_ONCE))
                )
                found = {file: reached for result in results for file, reached in result.items()}
            for file in new:
                measured[file].write_text(json.dumps(found.get(file, NOTHING)), encoding="utf-8")
        return list(measured.values())

    def _reach(self, files: list[str], result: Path) -> dict[str, Any]:
        """Run test files; return what the plugin `reach` has seen of each."""
        root = self._root
        result.unlink(missing_ok=True)
        done = subprocess.run(
            pytest("-q", "--no-header", "-m", SERVERS[self.server], "-p", "dev.mutants.reach", *files),
            cwd=root, env={**environment(root, self.server), "MUTANTS_REACH": str(result)}, check=False,
        )  # fmt: skip
        if done.returncode not in WORKED:
            raise SystemExit("the tests can't run: see above")
        found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return found


@cache
def _in_functions(file: Path) -> set[int]:
    """Return the lines within functions: the others run at import, and so in one test alone."""
    return {
        line
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for line in range(node.body[0].lineno, (node.end_lineno or node.lineno) + 1)
    }


def pytest(*arguments: str) -> list[str]:
    """Return the command that runs tests: always with the same examples, however slow the machine is."""
    return [sys.executable, "-B", "-m", "pytest", "--hypothesis-profile=ci", *arguments]


def environment(folder: Path, server: str) -> dict[str, str]:
    """Return the variables for the tests of a copy of the project on a database server.

    No compiled change is kept: the file without it can have the same size and the same time in seconds.
    """
    own = {"PYTHONPATH": str(folder), "IAM_WATCHER_DATABASE": server, "PYTHONDONTWRITEBYTECODE": "1"}
    return {**os.environ, **own}
