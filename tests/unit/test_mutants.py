"""What `make mutants` changes and what it leaves alone, and which tests it runs for a change."""

from __future__ import annotations

import json
import subprocess

import pytest

from dev.mutants import __main__ as main
from dev.mutants import selection
from dev.mutants.mutations import Mutation, mutations
from dev.mutants.selection import Selection

SOURCE = '''"""A docstring with a < b."""
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import x
TIMEOUT, MOST_BYTES = 5.0, 8 * 2**20
LONGEST = 2 * TIMEOUT
PATIENCE = timedelta(seconds=30)
LEAST, MOST = 1, 2
CODES = {1205: "a"}
QUERY = "SELECT a FROM t WHERE a < 1 AND b = 2 FOR UPDATE"
SCRIPT = """
if until > now then redis.call('DEL', KEYS[1]) end
  redis.call('SET', KEYS[1], 1)
if count > 3 then return 1 end
"""
def f(value: int = 3) -> bool:
    """Words."""
    logger.info("said %s", value + 1)
    if not value or value >= 7:
        raise ValueError(value * 2)
    value -= 1
    if not value:
        return False
    if time.monotonic() < value:
        work(value, True)
    return (value + 3) % 2
'''


def test_what_is_changed(tmp_path):
    (tmp_path / "a.py").write_text(SOURCE)
    found = mutations(tmp_path, "a.py")
    assert {mutation.name.removeprefix("a.py::") for mutation in found} == {
        "CODES: 1205 -> 1206",
        "QUERY: < -> <=",
        "QUERY: AND b = 2 -> nothing",
        "QUERY: FOR UPDATE -> nothing",
        "SCRIPT: > -> <=",
        "SCRIPT: > -> >=",
        "SCRIPT: redis.call('SET', KEYS[1], 1) -> nothing",
        "f: 3 -> 4",
        "f: not value or value >= 7 -> ((not value) and (value >= 7))",
        "f: not value -> bool(value)",
        "f: value >= 7 -> value > 7",
        "f: 7 -> 8",
        "f: value -= 1 -> pass",
        "f: 1 -> 2",
        "f: False -> True",
        "f: time.monotonic() < value -> (not (time.monotonic() < value))",
        "f: work(value, True) -> pass",
        "f: True -> False",
        "f: return (value + 3) % 2 -> return None",
        "f: (value + 3) % 2 -> ((value + 3) * 2)",
        "f: value + 3 -> (value - 3)",
        "f: 2 -> 3",
    }
    (lock,) = (mutation for mutation in found if mutation.was == " FOR UPDATE")
    assert lock.line == 10
    assert lock.applied(SOURCE) == SOURCE.replace(" FOR UPDATE", "")


def test_offsets_count_characters(tmp_path):
    (tmp_path / "a.py").write_text("x = 'é', 1 < 2\n", encoding="utf-8")
    assert "x = 'é', 1 <= 2\n" in {m.applied("x = 'é', 1 < 2\n") for m in mutations(tmp_path, "a.py")}


DECLARED = """
class Form:
    @property
    @abstractmethod
    def size(self, most: int = 3) -> int:
        return most + 1
    def pairs(self, one, other):
        return list(zip(one, other, strict=True))
"""


def test_what_makes_no_difference_is_left_alone(tmp_path):
    (tmp_path / "a.py").write_text(DECLARED)
    assert [mutation.name for mutation in mutations(tmp_path, "a.py")] == [
        "a.py::Form.pairs: return list(zip(one, other, strict=True)) -> return None"
    ]


SCRIPTS = """LATER = 5
SET = f"redis.call('SET', {LATER})"


def script():
    return SET
"""

SECONDS = {
    "tests/unit/test_importer.py::test_it": 1.0,
    "tests/unit/test_use.py::test_quick": 2.0,
    "tests/unit/test_use.py::test_slow": 30.0,
    "tests/unit/test_use.py::test_slower": 31.0,
    "tests/unit/test_use.py::test_slowest": 200.0,
    "tests/contract/test_model.py::test_slowest": 300.0,
    "tests/unit/test_scripts.py::test_own": 3.0,
}


@pytest.fixture
def chosen(tmp_path, monkeypatch):
    """A function that returns the names of the tests for a line of the scripts."""
    (tmp_path / "scripts.py").write_text(SCRIPTS)
    importer, *using = [test for test in SECONDS if "test_own" not in test]
    measured = {
        "seconds": SECONDS,
        "failed": [],
        "lines": {"scripts.py": {"1": [importer], "2": [importer], "6": using}},
    }
    (tmp_path / "reach.json").write_text(json.dumps(measured))
    monkeypatch.setattr(Selection, "_measured", lambda *_: [tmp_path / "reach.json"])

    def names(line, scope):
        change = Mutation("scripts.py", line, scope, 0, 0, "", "")
        found = Selection(tmp_path, tmp_path, "mariadb").tests_for(change)
        return [test.removeprefix("tests/") for test in found]

    return names


@pytest.mark.parametrize(("line", "scope"), [(6, "script"), (2, "SET"), (1, "LATER")])
def test_the_quickest_tests_come_first_and_no_test_of_the_contract_is_left_out(chosen, line, scope):
    """The test that happened to import a module notices no more of its constants than others."""
    assert chosen(line, scope) == [
        "unit/test_use.py::test_quick",
        "unit/test_use.py::test_slow",
        "unit/test_scripts.py::test_own",
        "unit/test_use.py::test_slower",
        "contract/test_model.py::test_slowest",
    ]


def test_only_for_a_script_all_tests_of_the_contract_run(chosen, monkeypatch):
    monkeypatch.setattr(selection, "LUA", "no script")
    assert "contract/test_model.py::test_slowest" not in chosen(6, "script")


def test_a_copy_has_the_files_of_the_repository(tmp_path, monkeypatch):
    # Some tests have a case for each file that git lists.
    monkeypatch.setattr(main, "RUN", tmp_path)
    listed = [
        subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for folder in (main.ROOT, main._copy(0))
    ]
    assert set(listed[0]) - set(listed[1]) == set()
    assert "CONTRIBUTING.md" in listed[1]


@pytest.mark.parametrize(
    ("answers", "noticed", "last"),
    [
        # With the change no test can run. Without it, one fails by chance, and then none.
        ([main.NO_TEST, "quick", main.NO_TEST, None], True, ["slow"]),
        ([main.NO_TEST, None], True, ["quick", "slow"]),
        # They can't run, or one hangs, without the change as well.
        ([main.NO_TEST, main.NO_TEST], False, ["quick", "slow"]),
        ([None], False, ["quick", "slow"]),
        (["quick", "quick"], True, ["quick"]),
        (["quick", None, None], False, ["slow"]),
    ],
)
def test_a_test_that_fails_by_chance_hides_no_change(tmp_path, monkeypatch, answers, noticed, last):
    (tmp_path / "a.py").write_text("1 < 2")
    ran, said = [], iter(answers)
    monkeypatch.setattr(
        main, "_first_failure", lambda _copy, _tests_of, tests: ran.append(tests) or next(said)
    )
    change = Mutation("a.py", 1, "", 2, 3, "<=", "<")
    assert main._is_noticed(tmp_path, change, None, ["quick", "slow"]) is noticed
    assert ran[-1] == last
    assert next(said, "all were asked for") == "all were asked for"
    assert (tmp_path / "a.py").read_text() == "1 < 2"
