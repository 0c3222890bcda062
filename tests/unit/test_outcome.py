"""The words in which the lock's scripts answer: those of the enums, which the callers compare with."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from iam_watcher.lock import scripts
from iam_watcher.lock.outcome import Entry, Release, Renewal, Revocation, Verdict

if TYPE_CHECKING:
    from enum import StrEnum

ANSWERED = re.compile(r"\breturn [^\n]*")
WORD = re.compile(r"'([a-z_]+) ?'")
HELPER = re.compile(r"local function .*?^end$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (scripts.ACQUIRE, Verdict),
        (scripts.RENEW, Renewal),
        (scripts.RELEASE, Release),
        (scripts.ENTER, Entry),
        (scripts.REVOKE, Revocation),
    ],
)
def test_a_script_answers_in_the_words_of_its_enum(script: str, words: type[StrEnum]) -> None:
    answers = ANSWERED.findall(HELPER.sub("", script))
    assert {word for answer in answers for word in WORD.findall(answer)} == set(words)
