"""What a walk tells of itself, by its figures."""

from __future__ import annotations

import pytest

from iam_watcher.walk.progress import Progress, ProgressReporter


@pytest.mark.parametrize(
    ("seconds", "began_at", "share", "eta"),
    [
        (10, 0.0, 0.5, 10),
        (10, 0.0, 0.1, 90),
        (30, 0.0, 1.0, 0),
        (10, 0.9, 0.95, 10),  # a retry: the first try did nine tenths in no time of ours
        (10, 0.9, 0.9, None),
        (0, 0.0, 0.0, None),
        (0, 0.0, 1.0, 0),
    ],
)
def test_the_rest_takes_as_long_as_the_speed_so_far_says(seconds, began_at, share, eta):
    progress = Progress.after(seconds, examined=1, changed=1, began_at=began_at, share=share)
    assert progress.eta_seconds == pytest.approx(eta)


@pytest.mark.parametrize("changed", [800, 0], ids=["changes", "dry run"])
def test_the_rate_is_that_of_the_rows_that_were_examined(changed):
    assert Progress.after(4, examined=9_000, changed=changed, began_at=0, share=0.5).rows_per_second == 2250


def test_it_is_logged_as_facts():
    progress = Progress(examined=9_000, changed=800, rows_per_second=266.6, share=0.123, eta_seconds=None)
    assert str(progress) == "examined=9000 changed=800 rows_per_second=267 walked=12.3% eta=unknown"


def test_it_tells_soon_after_the_beginning_and_then_from_time_to_time(monkeypatch):
    clock, reported = [100.0], []
    monkeypatch.setattr("iam_watcher.walk.progress.time.monotonic", lambda: clock[0])
    reporter = ProgressReporter("t", lambda progress: reported.append(progress.share))
    reporter.begin(0.0)
    for second in range(25):
        clock[0] = 100.0 + second
        reporter.report(examined=second, changed=0, share=second / 100)
    assert reported == [0.01, 0.11, 0.21]
