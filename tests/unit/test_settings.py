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


@pytest.mark.parametrize("text", ["", "watcher:\n", "watcher: {}\n", "watcher: {task: {}}\n"])
def test_what_is_not_set_is_off(tmp_path: Path, text: str) -> None:
    loaded = settings.load(write(tmp_path, text))
    assert (loaded.task.max_inactive_days, loaded.clean.max_reserve_days) == (0, 0)


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
        (
            "watcher: {task: {max-inactive-days: '${IAM_NOT_SET}'}}",
            ["watcher.task.max-inactive-days", "no IAM_NOT_SET"],
        ),
        ("watcher:\n  task: {", ["line 2", "not YAML"]),
    ],
)
def test_a_file_that_is_wrong(tmp_path: Path, text: str, expected: list[str]) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        settings.load(path)
    for part in [str(path), *expected]:
        assert part in str(caught.value)


@pytest.mark.parametrize("value", ["hunter2", "'${IAM_SECRET}'"])
def test_a_value_that_could_be_a_secret_is_not_shown(
    tmp_path: Path, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IAM_SECRET", "hunter2")
    with pytest.raises(SettingsError, match="max-inactive-days: expected a whole number") as caught:
        settings.load(write(tmp_path, f"watcher: {{task: {{max-inactive-days: {value}}}}}"))
    assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert caught.value.__suppress_context__


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
