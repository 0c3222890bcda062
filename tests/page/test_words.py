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
    """A function that returns the English words of a schedule in Chinese."""
    url = f"data:text/javascript;base64,{base64.b64encode(MODULE.read_bytes()).decode()}"
    with chromium() as browser:
        page = browser.new_page()
        page.goto("about:blank")
        yield lambda words: page.evaluate(
            "async ([url, words]) => (await import(url)).chineseSchedule(words)", [url, words]
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
        ("@every 90m", "每 1 小时 30 分钟"),
        ("@every 1d", "每天"),
        ("@after 5m", "上次运行结束后 5 分钟"),
        ("@at 2027-01-31T08:00:00+01:00", "一次：2027-01-31 08:00:00+01:00"),
        ("0 9,12,18 * jan,jul *", "1 月、7 月，每天 09:00:00、12:00:00、18:00:00（UTC）"),
        ("0 0 */10 * 5", "每月 1 日、11 日、21 日、31 日或每周五 00:00:00（UTC）"),
        ("*/15 9-17 * 6 MON-FRI", "6 月，每周一至周五 每 15 分钟（09:00 至 17:59）（UTC）"),
        ("*/15 9-11,14 * * *", "每 15 分钟（9-11、14 点）（UTC）"),
        ("*/5 * 15W * *", "每月离 15 日最近的工作日（周一至周五） 每 5 分钟（UTC）"),
        ("CRON_TZ=Asia/Shanghai 30 9-17 * * *", "每小时（09:30:00 至 17:30:00）（Asia/Shanghai）"),
        ("0 22-23,0-5 * * *", "0-5、22-23 点第 0 分（UTC）"),
        ("30 5,25 * * * *", "每小时第 5、25 分第 30 秒"),
        ("15 * * * *", "每小时第 15 分"),
        ("20-40 2 * * *", "2 点第 20-40 分（UTC）"),
        ("0 */2 * * *", "每 2 小时（UTC）"),
        ("* * * * *", "每分钟"),
        ("@daily~", "每天 17:33:06（UTC）"),
        ("@hourly~", "每小时第 33 分第 6 秒"),
    ],
)
def test_schedules_in_chinese(chinese, spec, words):
    assert chinese(describe(parse(spec, dag_id="clean_policy_audit"))) == words


def test_words_of_another_schedule(chinese):
    assert chinese("when an asset has changed, or every day") == "资产更新时，或每天"
    for unknown in ("Never, external triggers only", "every full moon UTC", "own"):
        assert chinese(unknown) == unknown
