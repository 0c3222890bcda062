from __future__ import annotations

import logging
import pkgutil
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import pytest

import iam_watcher
from iam_watcher.errors import JobError
from iam_watcher.lock.holder import Holder
from iam_watcher.log_lines import fact, get_logger, one_line

FORGED = "eve\n2026-11-24 INFO event=report changed=0\r\x1b[2K\u2028\u202e"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Åsa 明 😀", "Åsa 明 😀"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\u2028\u2029\x85", r"\u2028\u2029\x85"),
        ("\u202egnp", r"\u202egnp"),
        ("\udc80", r"\udc80"),
    ],
)
def test_what_cannot_be_printed_is_escaped(text, shown):
    assert one_line(text) == shown


def test_every_record_of_ours_is_one_line(caplog):
    with caplog.at_level("INFO"):
        get_logger("iam_watcher.somewhere").info("event=user_due user=%s days=%d", FORGED, 3)
        get_logger("iam_watcher.somewhere").info("%s", ValueError(FORGED))
    assert len(caplog.records) == 2
    for record in caplog.records:
        assert record.getMessage().isprintable()
        assert r"eve\n2026" in record.getMessage()


def test_every_message_of_an_error_is_one_line():
    assert str(JobError(f"name is {FORGED}")).isprintable()


def test_what_redis_says_of_a_holder_is_one_line():
    holder = Holder("clean", FORGED, since=datetime(2026, 11, 26, tzinfo=UTC), busy=(FORGED,))
    assert str(holder).isprintable()
    assert str(Holder("clean", FORGED)).isprintable()


def test_a_value_with_blanks_does_not_look_like_more_facts():
    assert fact("o.brien@example.com") == "o.brien@example.com"
    assert fact("eve days=0") == '"eve days=0"'
    assert fact('a"b') == r'"a\"b"'
    assert fact(7) == "7"
    assert fact(None) == "null"


def test_every_module_logs_by_such_a_logger():
    names = [module.name for module in pkgutil.walk_packages(iam_watcher.__path__, "iam_watcher.")]
    modules = [import_module(name) for name in names if not name.endswith("__main__")]
    loggers = [vars(module)["logger"] for module in modules if "logger" in vars(module)]
    assert len(loggers) > 10
    for logger in loggers:
        assert isinstance(logger, logging.Logger)
        assert logger.filters, logger.name


def test_no_operator_logs_by_airflows_logger():
    """Airflow's `self.log` writes what it is given."""
    (folder,) = iam_watcher.__path__
    files = [path for path in Path(folder).rglob("*.py") if "self.log." in path.read_text()]
    assert files == []
