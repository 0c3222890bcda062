"""Archives that are read: damage, forgeries and older formats end in a clear error or are read right.

Each way to damage an archive is a test on the same archive: hence the length.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import tracemalloc
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.archive import reader as archive_reader
from iam_watcher.archive.reader import find, verify
from iam_watcher.errors import ArchiveDamaged, JobArgumentError
from tests.integration.test_archive import UNHURRIED, fill, kept, purge
from tests.integration.test_restore_rows import everything, restore


@pytest.fixture
def location(tmp_path):
    return f"file://{tmp_path}/archive"


@pytest.fixture
def archived(iam, perform, location):
    """An archive of 300 rows in several parts: the run's URL, and the folder of its try."""
    fill(iam, 300)
    url = perform(purge(location, pace=UNHURRIED))["archive"]
    (folder,) = Path(url.removeprefix("file://")).iterdir()
    return url, folder


ROW = {"id": 3, "name": "n", "username": "u"}
MANIFEST = {
    "format": 2,
    "kind": "rows",
    "table": "policy_audit",
    "key": "id",
    "now": "2026-01-01T00:00:00+00:00",
    "columns": {"id": "bigint", "name": "varchar", "username": "varchar"},
    "redacted": [],
}  # fmt: skip


def write(folder, lines=(ROW,), *, rows=None, size=None, **manifest):
    """Write an archive of one part by hand; lines may be bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = {name: value for name, value in {**MANIFEST, **manifest}.items() if value is not ...}
    (folder / "manifest.json").write_text(json.dumps(facts))
    text = b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
    data = gzip.compress(text)
    digest = hashlib.sha256(data).hexdigest()
    sized = "" if facts.get("format") == 1 else f"{len(text) if size is None else size}-"
    name = f"part-000001-{len(lines) if rows is None else rows}-{sized}{digest}.jsonl.gz"
    (folder / name).write_bytes(data)
    return folder / name


def test_a_damaged_part_is_found(archived):
    url, folder = archived
    part = min(folder.glob("part-*"))
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    with pytest.raises(ArchiveDamaged, match="has the SHA-256"):
        verify(find(url, kind="rows"))


@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_missing_part_is_found(archived, which):
    url, folder = archived
    parts = sorted(folder.glob("part-*"))
    assert len(parts) > 2
    parts[which].unlink()
    with pytest.raises(ArchiveDamaged, match=f"expected 1 to {len(parts)} without a gap"):
        find(url, kind="rows")


def test_a_gap_is_found_where_no_list_is(archived):
    """The worker was killed."""
    url, folder = archived
    (folder / "complete.json").unlink()
    parts = sorted(folder.glob("part-*"))
    assert verify(find(url, kind="rows")) == 300
    parts[1].unlink()
    with pytest.raises(ArchiveDamaged, match=f"expected 1 to {len(parts)} without a gap"):
        find(url, kind="rows")


@pytest.mark.parametrize("left", ["part-*", "complete.json"])
def test_a_folder_without_its_manifest_is_damage(archived, left):
    """It is written first. Without a word half of the archive would not be restored."""
    url, folder = archived
    shutil.copytree(folder, folder.with_name("another"))
    (folder / "manifest.json").unlink()
    for path in {*folder.iterdir()} - {*folder.glob(left)}:
        path.unlink()
    for place in (url, f"{url}/{folder.name}") if left == "part-*" else (url,):
        with pytest.raises(ArchiveDamaged, match=rf"{folder.name} has no manifest\.json"):
            find(place, kind="rows")


def test_a_part_that_was_renamed_is_damage(archived):
    url, folder = archived
    part = max(folder.glob("part-*"))
    part.rename(f"{part} (1)")
    with pytest.raises(ArchiveDamaged, match="is not the name of a part"):
        find(url, kind="rows")


def test_a_part_that_was_stored_without_an_answer_does_no_harm(archived):
    """An object store can take a part although the worker got an error, and rolled back."""
    url, folder = archived
    last = max(folder.glob("part-*"))
    number = len(list(folder.glob("part-*"))) + 1
    (folder / f"part-{number:06}{last.name[len('part-000001') :]}").write_bytes(last.read_bytes())
    rows = len(gzip.decompress(last.read_bytes()).splitlines())
    assert verify(find(url, kind="rows")) == 300 + rows


def test_a_folder_without_an_archive_is_an_error(archived, tmp_path):
    url, folder = archived
    assert verify(find(f"{url}/{folder.name}", kind="rows")) == 300
    with pytest.raises(JobArgumentError, match=r"\(on the disk of the worker .*\) has no manifest\.json"):
        find(f"file://{tmp_path}/nowhere", kind="rows")
    with pytest.raises(JobArgumentError, match="has 'rows'; expected 'report'"):
        find(url, kind="report")


def test_an_archive_of_the_first_format_is_restored(iam, perform, archived, location):
    """Its manifest had the list of the parts, and its parts had no bytes in their names."""
    url, folder = archived
    iam.run("INSERT INTO policy_audit (id, name, username) VALUES (1, '', '')")
    rows = kept(url)
    manifest = json.loads((folder / "manifest.json").read_text())
    for path in folder.iterdir():
        path.unlink()
    (part,) = [write(folder, rows.values(), **{**manifest, "format": 1, "complete": False})]
    assert find(url, kind="rows")[0].complete is False
    facts = {"complete": True, "rows": len(rows), "parts": [{"name": part.name, "rows": len(rows)}]}
    (folder / "manifest.json").write_text(json.dumps({**manifest, "format": 1, **facts}))
    report = perform(restore(location, url))
    assert (report["restored"], report["complete"], report["altered"]) == (300, True, {})
    assert len(everything(iam, "policy_audit")) == 301
    part.unlink()
    with pytest.raises(ArchiveDamaged, match="expected 1 to 1 without a gap"):
        find(url, kind="rows")


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({"format": 3}, "has the format 3; expected up to 2. A later version"),
        ({"format": 0}, "has the format 0; expected 1 to 2"),
        ({"format": "2"}, "not a file of an archive"),
        ({"format": ...}, "not a file of an archive"),
        ({"key": 5}, "not a file of an archive"),
        ({"key": "absent"}, "expected absent, the primary key, among them"),
        ({"table": ["policy_audit"]}, "not a file of an archive"),
        ({"kind": None}, "not a file of an archive"),
        ({"now": "2026-01-01T00:00:00"}, "not a file of an archive"),
        ({"now": "yesterday"}, "not a file of an archive"),
        ({"columns": ["id"]}, "not a file of an archive"),
        ({"columns": {"id": 1}}, "not a file of an archive"),
        ({"columns": ...}, "expected id, the primary key, among them"),
        ({"redacted": 7}, "not a file of an archive"),
    ],
)
def test_a_manifest_that_is_none_of_ours_ends_the_restore(
    iam, perform, location, tmp_path, manifest, message
):
    write(tmp_path / "archive" / "x", **manifest)
    with pytest.raises(AirflowFailException, match=message):
        perform(restore(location, "x"))


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{", b"\xff", b"null", b"[" * 100_000, b'{"format": ' + b"[" * 100_000]
)
@pytest.mark.parametrize("name", ["manifest.json", "complete.json"])
def test_json_that_is_none_ends_the_restore(iam, perform, location, tmp_path, name, text):
    write(tmp_path / "archive" / "x")
    (tmp_path / "archive" / "x" / name).write_bytes(text)
    with pytest.raises(AirflowFailException, match="not a file of an archive"):
        perform(restore(location, "x"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"\n", "expected a JSON object"),
        (b"[]\n", "expected a JSON object"),
        (b'{"id": 3, "name": \n', "expected a JSON object"),
        (b'{"id": 3, "name": "\\ud800"}\n', "expected a JSON object"),
        (b"\xff\n", "expected a JSON object"),
        (b'{"id": 3, "name": ' + b"[" * 100_000 + b"\n", "expected a JSON object"),
        ({"id": 3}, "has a row with id; expected id, name, username"),
        ({**ROW, "more": 1}, "has a row with id, name, username, more"),
        ({**ROW, "id": None}, "a whole number as id"),
        ({**ROW, "id": "3"}, "a whole number as id"),
        ({**ROW, "id": 3.5}, "a whole number as id"),
        ({**ROW, "name": 4}, "'4' is no value of the format 'text'"),
        ({**ROW, "name": ["n"]}, "no value of the format 'text'"),
        ({**ROW, "name": {}}, "no value of the format 'text'"),
        ({**ROW, "name": {"bytes": "%%", "charset": "latin1"}}, "no value of the format 'text'"),
        (
            {**ROW, "name": {"bytes": "AA==", "charset": "x); DROP"}},
            "this server doesn't know",
        ),
    ],
)
def test_rows_that_are_none_end_the_restore(iam, perform, location, tmp_path, line, message):
    write(tmp_path / "archive" / "x", [ROW, line])
    with pytest.raises(AirflowFailException, match=message):
        perform(restore(location, "x"))
    assert iam.value("SELECT COUNT(*) FROM policy_audit") == 0


@pytest.mark.parametrize("cut", [slice(0), slice(5), slice(-1), slice(0, -9)])
def test_a_part_that_is_no_gzip_ends_the_restore(iam, perform, location, tmp_path, cut):
    part = write(tmp_path / "archive" / "x", [ROW] * 50)
    data = part.read_bytes()[cut]
    part.unlink()
    name = f"part-000001-50-{50 * len(json.dumps(ROW) + 'n')}-{hashlib.sha256(data).hexdigest()}.jsonl.gz"
    (part.parent / name).write_bytes(data)
    with pytest.raises(AirflowFailException, match=r"can't be unpacked|unpacks to 0 bytes"):
        perform(restore(location, "x"))


@pytest.mark.parametrize(
    ("lines", "facts", "message"),
    [
        ([b"x" * 50_000_000], {"size": 1_000}, "unpacks to more than expected: 1000 bytes"),
        ([b"[]\n" * 10_000_000], {"size": 1_000}, "expected a JSON object"),
        ([b"{}\n" * 10_000_000], {"size": 1_000}, "has more rows than the 1 of its name"),
        ([b"x" * 50_000_000], {"format": 1, "complete": False}, "a line of at most 1000000 bytes"),
        ([b"{}\n" * 10_000_000], {"format": 1, "complete": False}, "has more rows than the 1 of its name"),
        ([ROW], {"size": 1_000}, "unpacks to 40 bytes; expected 1000"),
        ([ROW], {"rows": 2}, "has 1 rows; expected 2"),
    ],
)
def test_a_part_that_unpacks_to_far_more_than_it_says_needs_no_memory(
    tmp_path, monkeypatch, lines, facts, message
):
    write(tmp_path, lines, **facts)
    monkeypatch.setattr(archive_reader, "LONGEST_LINE", 1_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveDamaged, match=message):
            verify(find(f"file://{tmp_path}", kind="rows"))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("what", ["try", "manifest.json", "complete.json", "part", "above"])
def test_a_link_that_leads_out_of_the_archive_is_refused(iam, perform, location, tmp_path, what):
    part = write(tmp_path / "elsewhere" / "try")
    top = tmp_path / "archive"
    if what == "above":
        top.mkdir()
        (top / "x").symlink_to(tmp_path / "elsewhere")
    elif what == "try":
        (top / "x").mkdir(parents=True)
        (top / "x" / "try").symlink_to(part.parent)
    else:
        shutil.copytree(part.parent, top / "x" / "try")
        name = part.name if what == "part" else what
        (top / "x" / "try" / name).unlink(missing_ok=True)
        (top / "x" / "try" / name).symlink_to(part.parent / name)
    with pytest.raises(AirflowFailException, match="is a link that leads out of"):
        perform(restore(location, "x"))


def test_an_archive_behind_a_link_of_the_location_is_read(iam, perform, tmp_path):
    write(tmp_path / "disk" / "x")
    (tmp_path / "archive").symlink_to(tmp_path / "disk")
    assert perform(restore(f"file://{tmp_path}/archive", "x", dry_run=True))["rows"] == 1
