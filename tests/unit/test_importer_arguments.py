"""What the importer can write no file for: an error that says why, not a traceback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from iam_watcher.importer.__main__ import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("output", ["file", "file/dags", "x" * 300])
def test_a_folder_that_cannot_be_made(capsys, tmp_path: Path, output: str) -> None:
    (tmp_path / "input").write_text("* * * * * true")
    (tmp_path / "file").write_text("mine")
    assert main(["crontab", str(tmp_path / "input"), "--output", str(tmp_path / output)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"--output {tmp_path / output}: ")
    assert "expected a folder, or one that can be made" in error
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("prefix", ["../x", "a/x", "a b", "x" * 101, "é"])
def test_a_prefix_that_no_watcher_can_have(capsys, tmp_path: Path, prefix: str) -> None:
    """With a slash in it, the file would be outside of the folder."""
    (tmp_path / "input").write_text("* * * * * true")
    with pytest.raises(SystemExit) as ended:
        main(["crontab", str(tmp_path / "input"), "--output", str(tmp_path / "dags"), "--prefix", prefix])
    assert ended.value.code == 2
    assert "argument --prefix" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["input"]


@pytest.mark.parametrize("block", ["[]", "false", "''", "0"])
def test_a_block_of_the_go_iam_watcher_that_is_no_mapping(capsys, tmp_path: Path, block: str) -> None:
    (tmp_path / "input").write_text(f"watcher: {{clean: {block}, task: }}")
    assert main(["iam-watcher", str(tmp_path / "input"), "--output", str(tmp_path / "dags")]) == 1
    assert "watcher.clean: not translated: expected a mapping" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "dags").iterdir()] == ["disable_inactive_users.py"]


@pytest.fixture
def localtime(monkeypatch, tmp_path: Path) -> Path:
    """A machine's /etc, whose localtime is a copy of a zone's file, and no link to one."""
    monkeypatch.delenv("TZ", raising=False)
    monkeypatch.setattr("iam_watcher.importer.__main__._LOCALTIME", tmp_path / "localtime")
    monkeypatch.setattr("iam_watcher.importer.__main__._TIMEZONE", tmp_path / "timezone", raising=False)
    (tmp_path / "localtime").write_bytes(b"TZif2")
    (tmp_path / "input").write_text("0 3 * * * true")
    return tmp_path / "localtime"


def imported(tmp_path: Path, *more: str) -> int:
    return main(["crontab", str(tmp_path / "input"), "--output", str(tmp_path / "dags"), *more])


def test_the_zone_of_a_machine_with_a_copy_of_a_zone(capsys, localtime: Path, tmp_path: Path) -> None:
    (tmp_path / "timezone").write_text("Asia/Tokyo\n")
    assert imported(tmp_path) == 0
    assert "CRON_TZ=Asia/Tokyo 0 3 * * *" in (tmp_path / "dags/true.py").read_text()
    assert "times without a zone are read in Asia/Tokyo" in capsys.readouterr().out


@pytest.mark.parametrize("text", [None, "", "\n", "two words"])
def test_a_machine_whose_zone_has_no_name(capsys, localtime: Path, tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "timezone").write_text(text)
    assert imported(tmp_path) == 2
    error = capsys.readouterr().err
    assert "this machine's time zone has no name" in error
    assert "--timezone" in error
    assert not (tmp_path / "dags").exists()
    assert imported(tmp_path, "--timezone", "Asia/Tokyo") == 0


def test_a_machine_without_a_zone_is_in_utc(capsys, localtime: Path, tmp_path: Path) -> None:
    localtime.unlink()
    assert imported(tmp_path) == 0
    assert "times without a zone are read in UTC" in capsys.readouterr().out


SYSTEM = """MAILTO=root
17 * * * * root cd / && run-parts /etc/cron.hourly
*/5 * * * * www-data /usr/bin/php -f /srv/cloud/cron.php
0 4 * * * deploy /srv/app/clean
"""


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        (SYSTEM, [], True),
        (SYSTEM, ["--user", "bob"], True),
        (SYSTEM, ["--system"], False),
        (SYSTEM + "0 5 * * * /srv/app/report\n", [], False),
        (SYSTEM + "0 5 * * * cleanup\n", [], False),
        (SYSTEM + "0 5 * * * sync && date\n@daily date > /tmp/x\n", [], False),
        ("0 4 * * * backup /srv\n0 5 * * * git gc\n", [], False),
        ("0 4 * * * root\n", [], False),
        ("@reboot root /opt/start\n", [], False),
    ],
)
def test_a_crontab_of_the_system_with_another_name(
    capsys, tmp_path: Path, text: str, options: list[str], said: bool
) -> None:
    (tmp_path / "jobs").write_text(text)
    main(["crontab", str(tmp_path / "jobs"), "--output", str(tmp_path / "dags"), *options])
    report = capsys.readouterr().out
    assert ("each command begins with a user, such as 'root'" in report) is said
    assert ("--system" in report) is said
