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
