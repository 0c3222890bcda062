"""The words of schedules in Chinese, by the page's own module in a browser."""
# ruff: noqa: RUF001  Chinese has its own brackets and commas

from __future__ import annotations

import base64

import pytest

from dev.airflow import ROOT
from dev.page.browser import chromium
from iam_watcher.schedule import describe, parse

MODULE = ROOT / "plugins" / "iam_watcher" / "ui" / "page" / "words-zh.js"


@pytest.fixture(scope="module")
def chinese():
    """A function that returns the words of a spec in Chinese."""
    url = f"data:text/javascript;base64,{base64.b64encode(MODULE.read_bytes()).decode()}"
    with chromium() as browser:
        page = browser.new_page()
        page.goto("about:blank")
        yield lambda spec: page.evaluate(
            "async ([url, words]) => (await import(url)).chineseSchedule(words)", [url, describe(parse(spec))]
        )


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("0 9 L * *", "每月最后一天 09:00:00（UTC）"),
        ("0 9 L-3 * *", "每月倒数第 4 天 09:00:00（UTC）"),
        ("0 9 15W * *", "每月离 15 日最近的工作日（周一至周五） 09:00:00（UTC）"),
        ("0 9 LW * *", "每月最后一个工作日（周一至周五） 09:00:00（UTC）"),
        ("0 9 L-3W * *", "每月离倒数第 4 天最近的工作日（周一至周五） 09:00:00（UTC）"),
        ("0 9 * * 5#2", "每月第二个周五 09:00:00（UTC）"),
        ("0 9 * * sunL", "每月最后一个周日 09:00:00（UTC）"),
        ("0 9 * 2,5-7 5#5", "2 月、5 至 7 月，每月第五个周五 09:00:00（UTC）"),
        ("0 9,18 1,15,L * 1", "每月 1 日、15 日、最后一天或每周一 09:00:00、18:00:00（UTC）"),
        ("0 22 * * 1-5", "每周一至周五 22:00:00（UTC）"),
        ("30 3 * * *", "每天 03:30:00（UTC）"),
        ("@every 2h", "每 2 小时"),
        # A form that is not known stays as it is.
        ("15 * * * *", "at minute 15 of every hour"),
    ],
)
def test_schedules_in_chinese(chinese, spec, words):
    assert chinese(spec) == words
