"""What `make mutants` changes, and what it leaves alone."""

from __future__ import annotations

from dev.mutants.mutations import mutations

SOURCE = '''"""A docstring with a < b."""
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import x
TIMEOUT, MOST_BYTES = 5.0, 8 * 2**20
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
    assert lock.line == 9
    assert lock.applied(SOURCE) == SOURCE.replace(" FOR UPDATE", "")


def test_offsets_count_characters(tmp_path):
    (tmp_path / "a.py").write_text("x = 'é', 1 < 2\n", encoding="utf-8")
    assert "x = 'é', 1 <= 2\n" in {m.applied("x = 'é', 1 < 2\n") for m in mutations(tmp_path, "a.py")}
