from __future__ import annotations

import logging
import stat
from pathlib import Path

import pytest
from pydantic import ValidationError

from iam_watcher import settings
from iam_watcher.errors import SettingsError

REPO = Path(__file__).parents[2]


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "iam-watcher.yaml"
    path.write_text(text)
    return path


def test_the_originals_keys_are_read(tmp_path: Path) -> None:
    path = write(
        tmp_path, "watcher:\n  task:\n    max-inactive-days: 90\n  clean:\n    max-reserve-days: 30\n"
    )
    loaded = settings.load(path)
    assert (loaded.task.max_inactive_days, loaded.clean.max_reserve_days) == (90, 30)


def test_the_file_of_this_repo_has_the_originals_shipped_values() -> None:
    loaded = settings.load(REPO / "include" / "iam-watcher.yaml")
    assert (loaded.task.max_inactive_days, loaded.clean.max_reserve_days) == (180, 180)


@pytest.mark.parametrize(
    "text",
    [
        *["", "null", "watcher:\n", "watcher: ~", "watcher: {}\n", "watcher: {task: {}}\n"],
        "watcher:\n  task:\n  clean: ~\n  cleansecret:  # dry-run: true\n",
    ],
)
def test_what_is_not_set_is_off(tmp_path: Path, text: str) -> None:
    assert settings.load(write(tmp_path, text)) == settings.Settings()
    assert (settings.Settings().task.max_inactive_days, settings.Settings().clean.max_reserve_days) == (0, 0)


def test_the_file_of_this_repo_without_the_lines_of_dry_runs(tmp_path: Path) -> None:
    """As docs/first-day.md says, step 7: nothing is left of the block `cleansecret`."""
    lines = (REPO / "include" / "iam-watcher.yaml").read_text().splitlines(keepends=True)
    without = [line for line in lines if not line.strip().startswith("dry-run:")]
    assert len(lines) - len(without) == 3
    loaded = settings.load(write(tmp_path, "".join(without)))
    assert loaded == settings.load(REPO / "include" / "iam-watcher.yaml")


def test_a_value_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IAM_DAYS", "42")
    path = write(tmp_path, "watcher: {task: {max-inactive-days: '${IAM_DAYS}'}}")
    assert settings.load(path).task.max_inactive_days == 42


def test_the_blocks_that_airflow_replaces_are_accepted_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(
        tmp_path,
        "mysql: {host: '${NOT_SET}', password: topsecret}\n"
        "redis: {}\nlog: {}\nwatcher: {clean: {max-reserve-days: 1}}",
    )
    with caplog.at_level(logging.INFO):
        settings.load(path)
        settings.load(path)
    assert len([r for r in caplog.records if "iam_mysql" in r.message]) == 1
    assert "topsecret" not in caplog.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "watcher: {task: {max-inactive-days: -1}}",
            ["watcher.task.max-inactive-days", "0 (off) to 36500", "got -1"],
        ),
        (
            "watcher: {clean: {max-reserve-days: 1.5}}",
            ["watcher.clean.max-reserve-days", "whole number", "got 1.5"],
        ),
        ("watcher: {clean: {max-reserve-days: true}}", ["max-reserve-days", "whole number", "got True"]),
        ("watcher: {clean: {max-reserve-days: 36501}}", ["max-reserve-days", "got 36501"]),
        ("watcher: {clean: {max-reserve-days: null}}", ["max-reserve-days", "whole number"]),
        (
            "watcher: {task: {max_inactive_days: 3}}",
            ["unknown key 'watcher.task.max_inactive_days'", "max-inactive-days"],
        ),
        ("watcher: {other: 3}", ["unknown key 'watcher.other'", "watcher.clean.max-reserve-days"]),
        ("watchers: {}", ["unknown key 'watchers'", "'watcher'"]),
        ("watcher: 5", ["watcher: expected a mapping"]),
        ("watcher: {task: 5}", ["watcher.task: expected a mapping"]),
        ("- watcher", ["expected a mapping", "list"]),
        ("!!null {watcher: {task: 5}}", ["watcher.task: expected a mapping"]),
        (
            "watcher:\n  - cleansecret:\n      dry-run: true",
            ["line 2: watcher: expected a mapping, got a list"],
        ),
        *(
            (f"watcher:\n  {value}", ["line 2: watcher: expected a mapping"])
            for value in (
                "[]",
                "false",
                "''",
                "0",
                "!!omap []",
                "!!null []",
                "!!null cleansecret",
                "${IAM_EMPTY}",
            )
        ),
        *(
            (f"watcher:\n  {block}: {value}", [f"line 2: watcher.{block}: expected a mapping"])
            for block in ("task", "clean", "cleansecret")
            for value in ("[]", "false", "''", "0", "!!omap []", "!!null []", "${IAM_EMPTY}")
        ),
        ("watcher:\n  task:\n  other:", ["line 3: unknown key 'watcher.other'"]),
        (
            "watcher:\n  cleansecret:\n    dry-run:",
            ["line 3", "dry-run: expected true or false, got no value"],
        ),
        ("watcher: {cleansecret: {dry-run: [true]}}", ["dry-run: expected true or false, got a list"]),
        ("watcher: {cleansecret: {dry-run: {a: true}}}", ["dry-run: expected true or false, got a mapping"]),
        ("watcher: {cleansecret: {dry-run: !!bool x}}", ["cleansecret.dry-run", "can't read"]),
        ("watcher: {cleansecret: {dry-run: !!timestamp x}}", ["cleansecret.dry-run", "can't read"]),
        (
            "watcher: {task: {max-inactive-days: '${IAM_NOT_SET}'}}",
            ["watcher.task.max-inactive-days", "no IAM_NOT_SET"],
        ),
        ("watcher:\n  task: {", ["line 2", "not YAML"]),
        ("watcher:\n  task:\n    max-inactive-days: -1", ["line 3: watcher.task.max-inactive-days"]),
        ("watcher:\n  task: {dry-run: 1}", ["line 2: watcher.task.dry-run", "true or false", "got 1"]),
        (
            "watcher:\n  task:\n    max-inactive-days: 180\n    max-inactive-days: 18",
            ["line 4", "'max-inactive-days' is given twice", "first in line 3"],
        ),
        ("watcher: {}\nwatcher: {}", ["line 2", "'watcher' is given twice"]),
        ("mysql:\n  port: 1\n  port: 2", ["line 3", "'port' is given twice"]),
        ("watcher:\n  task: {max-inactive-days: 0170}", ["line 2", "octal", "number such as 180"]),
        ("watcher:\n  task: {max-inactive-days: 0100}", ["line 2", "octal", "got '0100'"]),
        ("watcher:\n  task: {max-inactive-days: 3:00}", ["line 2", "base 60"]),
        ("watcher:\n  task: {max-inactive-days: 3:00.5}", ["line 2", "base 60"]),
        ("watcher:\n  task: {max-inactive-days: 0xB4}", ["line 2", "plain number"]),
        ("watcher:\n  task: &all\n    task: *all", ["line 2", "alias", "write the value out"]),
        ("mysql: &all\n  - [*all]", ["line 2", "alias", "write the value out"]),
        ("watcher: {clean: {max-reserve-days: !!int 'x'}}", ["line 1", "plain number"]),
        ("watcher: {clean: {max-reserve-days: 2026-13-45}}", ["line 1", "can't read"]),
        ("watcher: {clean: {? {a: b} : 1}}", ["line 1", "unknown key"]),
        ("watcher: " + "[" * 5000, ["inside each other"]),
    ],
)
def test_a_file_that_is_wrong(
    tmp_path: Path, text: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IAM_EMPTY", "")
    path = write(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        settings.load(path)
    for part in [str(path), *expected]:
        assert part in str(caught.value)


def test_aliases_and_merges_that_end_are_read(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "mysql: &defaults {max-inactive-days: 9}\n"
        "redis: {a: *defaults, b: *defaults}\n"
        "watcher:\n  task: {<<: *defaults}\n  clean: &dry {dry-run: yes}\n  cleansecret: *dry",
    )
    loaded = settings.load(path)
    assert loaded.task.max_inactive_days == 9
    assert (loaded.task.dry_run, loaded.clean.dry_run, loaded.cleansecret.dry_run) == (False, True, True)


def test_blocks_that_are_not_read_may_hold_what_only_go_reads(tmp_path: Path) -> None:
    text = "mysql: {password: 0123, since: 2026-13-45, at: 1:30}\nwatcher: {clean: {max-reserve-days: 1}}"
    assert settings.load(write(tmp_path, text)).clean.max_reserve_days == 1


@pytest.mark.parametrize(("text", "expected"), [("true", True), ("False", False), ("yes", None)])
def test_a_dry_run_from_the_environment(
    tmp_path: Path, text: str, expected: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IAM_DRY", text)
    path = write(tmp_path, "watcher: {cleansecret: {dry-run: '${IAM_DRY}'}}")
    if expected is not None:
        assert settings.load(path).cleansecret.dry_run is expected
        return
    with pytest.raises(SettingsError, match=r"expected true or false, got the value of \$\{IAM_DRY\}"):
        settings.load(path)


@pytest.mark.parametrize(
    ("value", "secret"),
    [
        ("hunter2", "hunter2"),
        ("123456789", "123456789"),
        ("0000042", "0000042"),
        *(("'${IAM_SECRET}'", secret) for secret in ("hunter2", "123456789", "-7")),
    ],
)
def test_a_value_that_could_be_a_secret_is_not_shown(
    tmp_path: Path, value: str, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IAM_SECRET", secret)
    with pytest.raises(SettingsError, match="max-inactive-days") as caught:
        settings.load(write(tmp_path, f"watcher: {{task: {{max-inactive-days: {value}}}}}"))
    message = f"{caught.value!r} {caught.value.__cause__!r}".replace(str(tmp_path), "")
    assert secret not in message
    assert ("${IAM_SECRET}" in message) == ("IAM_SECRET" in value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.yaml.*expected a readable YAML file"):
        settings.load(tmp_path / "nowhere.yaml")


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "iam-watcher.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert stat.S_ISREG(path.stat().st_mode)
    with pytest.raises(SettingsError, match="expected a readable YAML file"):
        settings.load(path)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        settings.Settings().task.max_inactive_days = 1  # type: ignore[misc]
