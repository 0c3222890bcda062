"""Sends requests to the servers of a lock, one or several, and counts their answers. No Airflow."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from iam_watcher.lock.scripts import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from redis import Redis


def majority(servers: int) -> int:
    """Return how many of the servers must agree."""
    return servers // 2 + 1


@dataclass(slots=True)
class Answers:
    """The answers of the servers to one request.

    Args:
        servers: how many there are.
        given: the number of a server -> its answer.
        errors: the number of a server -> why it did not answer.
    """

    servers: int
    given: dict[int, Any] = field(default_factory=dict)
    errors: dict[int, Exception] = field(default_factory=dict)

    def count(self, *words: str) -> int:
        """Return how many servers gave one of these answers."""
        return sum(map(words.__contains__, self.given.values()))

    def agree(self, *words: str) -> bool:
        """Return whether a majority gave one of these answers."""
        return self.count(*words) >= majority(self.servers)

    def might_agree(self, *words: str) -> bool:
        """Return whether the servers without an answer could make that majority."""
        return bool(self.errors) and self.count(*words) + len(self.errors) >= majority(self.servers)

    def first(self, words: Iterable[str]) -> str | None:
        """Return the first of these words, in their order, that any server answered."""
        given = self.given.values()
        return next((word for word in words if word in given), None)

    def who_said(self, *words: str) -> list[int]:
        """Return the servers that gave one of these answers."""
        return [number for number, answer in self.given.items() if answer in words]

    def updated(self, later: Answers) -> Answers:
        """Return these answers, with the later one of each server that was asked again.

        Args:
            later: of all servers that did not answer before, and perhaps of others.
        """
        given = {number: answer for number, answer in self.given.items() if number not in later.errors}
        return Answers(self.servers, {**given, **later.given}, later.errors)


class Quorum:
    """The servers of one lock.

    Args:
        clients: one for each server.
        keys: the KEYS of all scripts.
    """

    def __init__(self, clients: Sequence[Redis], keys: Sequence[str]) -> None:
        # Not at the top: parsing a DAG file imports no redis. Not for each request: that takes time.
        from redis.exceptions import NoScriptError, RedisClusterException, RedisError

        self._failures = RedisError, RedisClusterException
        self._unknown_script = NoScriptError
        self.clients = clients
        self._keys = [name.encode() for name in keys]

    def ask(self, script: str, *arguments: str | float, only: Iterable[int] | None = None) -> Answers:
        """Run a script on each server, or on some of them, one after the other."""
        numbers = range(len(self.clients)) if only is None else only
        return self.ask_each(script, dict.fromkeys(numbers, arguments))

    def ask_each(self, script: str, arguments: Mapping[int, Sequence[str | float]]) -> Answers:
        """Run a script on these servers, each with arguments of its own."""
        answers = Answers(len(self.clients))
        for number, values in arguments.items():
            try:
                answer = self._run(self.clients[number], script, values)
            except self._failures as error:
                answers.errors[number] = error
            else:
                answers.given[number] = text(answer) if isinstance(answer, bytes) else answer
        return answers

    def _run(self, client: Redis, script: str, arguments: Sequence[str | float]) -> Any:
        # By hand: a Script of redis-py hashes its text each time that one is made.
        try:
            return client.evalsha(_sha(script), len(self._keys), *self._keys, *arguments)
        except self._unknown_script:
            return client.eval(script, len(self._keys), *self._keys, *arguments)


@cache
def _sha(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
