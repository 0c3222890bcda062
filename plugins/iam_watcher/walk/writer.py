"""Writes rows by their keys, and finds the rows that a foreign key protects.

Each statement goes by the key of the walk, whatever the optimizer prefers. By another index, or by a scan of
the table, it would wait for locks on rows that are none of its business.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from iam_watcher.database.server_errors import PROTECTED, code_of
from iam_watcher.walk.child_rows import condition
from iam_watcher.walk.chunk import DENSE
from iam_watcher.walk.descendants import RowsRefusedError, TooManyRowsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iam_watcher.database.key import KeyValue
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.walk.chunk import Chunk
    from iam_watcher.walk.descendants import Descendants
    from iam_watcher.walk.row_change import RowChange, RowRecorder

# Writes a range of keys, or a list of keys that lie far apart.
WRITE = "{write} WHERE {keys} AND ({predicate})"

Parts = list[list[Any]]


@dataclass
class Written:
    """What was written in one transaction.

    Attributes:
        changed: rows that were written.
        protected: keys of the rows that a foreign key protects.
        refused: reason → rows that were not written, because they can't be recorded.
        alone: keys of the rows that have too many descendants for this transaction.
        unconfirmed: 1 if a commit of ours got no answer, and the row is gone since.
        rest: parts of the keys that are left when the time is over, the next one last.
    """

    changed: int = 0
    protected: list[KeyValue] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    alone: list[KeyValue] = field(default_factory=list)
    unconfirmed: int = 0
    rest: Parts = field(default_factory=list)

    @property
    def left(self) -> int:
        """The number of keys in `rest`."""
        return sum(map(len, self.rest))


class Writer:
    """Writes rows within a transaction.

    Args:
        db: the transactions.
        rows: the change to make.
        recorder: records the rows that are changed; None if nothing does.
        descendants: are deleted with the rows; None if there are none.
    """

    def __init__(
        self,
        db: Transactions,
        rows: RowChange,
        recorder: RowRecorder | None,
        descendants: Descendants | None = None,
    ) -> None:
        self._db = db
        self._rows = rows
        self._recorder = recorder
        self._descendants = descendants

    def write_range(self, chunk: Chunk) -> int | None:
        """Write rows that were only counted; return how many, or None if a foreign key protects one."""
        return self._change(chunk.within)

    def write_keys(self, parts: Parts, *, until: float, exact: bool, children_first: bool = True) -> Written:
        """Write these keys, each part by one statement; if a foreign key protects a row, find it by halving.

        Args:
            parts: the last one is written first.
            until: monotonic time after which no statement begins, except for the first.
            exact: write these keys only, and no range with gaps.
            children_first: begin with the larger keys. Rows that refer to rows of the same table mostly
                refer to older ones.
        """
        recorder, descendants = self._recorder, self._descendants
        if descendants is not None:
            descendants.begin()
        if recorder is not None:
            locked = set(recorder.lock(sorted(key for part in parts for key in part)))
            parts = [keys for part in parts if (keys := [key for key in part if key in locked])]
        parts = [few for part in parts for few in self._rows.key.in_lists(part)]
        written = Written(rest=list(parts), refused=Counter(recorder.refused if recorder is not None else {}))
        done: list[KeyValue] = []
        began = False
        while written.rest and not (began and time.monotonic() >= until):
            if written.alone and self._rows.last_first:
                break  # What is left may be what that row refers to.
            began = True
            done += self._write_part(written, exact=exact, children_first=children_first)
        if recorder is not None and done:
            recorder.record(sorted(done))
        if descendants is not None and done:
            descendants.store()
        return written

    def _write_part(self, written: Written, *, exact: bool, children_first: bool) -> list[KeyValue]:
        """Write the next part of what is left, or halve it; return the keys that were written."""
        keys = written.rest.pop()
        if self._descendants is not None and len(keys) > (most := self._descendants.most_parents):
            rest, keys = (keys[:-most], keys[-most:]) if self._rows.last_first else (keys[most:], keys[:most])
            written.rest.append(rest)
        try:
            changed = self._change_family(keys, exact=exact)
        except (TooManyRowsError, RowsRefusedError) as error:
            if len(keys) == 1 and isinstance(error, RowsRefusedError):
                written.refused[str(error)] += 1
                return []
            if len(keys) == 1:
                written.alone += keys
                return []
            changed = None
        if changed is not None:
            written.changed += changed
            return keys
        if len(keys) == 1:
            written.protected += keys
        else:
            halves = halved(keys)
            written.rest += halves if children_first else reversed(halves)
        return []

    def _change_family(self, keys: Sequence[KeyValue], *, exact: bool) -> int | None:
        """Return how many rows were changed with their descendants; None if a foreign key protects one."""
        if self._descendants is None:
            return self._change_keys(keys, exact=exact)
        return self._descendants.delete_with(keys, lambda: self._change_keys(keys, exact=exact))

    def _change_keys(self, keys: Sequence[KeyValue], *, exact: bool) -> int | None:
        key = self._rows.key
        if key.is_integer and not exact:
            first, last = min(keys), max(keys)  # an index has them in another order
            span = last - first + 1
            if len(keys) * DENSE >= span:
                return self._change(f"{key.from_on(first)} AND {key.up_to(last)}")
        return self._change(condition(key, keys))

    def _change(self, keys: str) -> int | None:
        """Return how many rows a statement changed, or None if a foreign key protects one of them."""
        rows = self._rows
        predicate = rows.write_predicate or rows.predicate
        query = WRITE.format(write=rows.write, keys=keys, predicate=predicate)
        try:
            return self._db.change(query, rows.values)
        except self._db.error as error:
            if code_of(error) in PROTECTED:
                return None
            raise


def halved(keys: list[Any]) -> Parts:
    """Return the two halves of keys."""
    half = len(keys) // 2
    return [part for part in (keys[:half], keys[half:]) if part]


def in_parts(keys: list[Any], size: int) -> Parts:
    """Return keys in parts of a size."""
    return [keys[at : at + size] for at in range(0, len(keys), size)]


def split(parts: Parts, keys: int) -> tuple[Parts, Parts]:
    """Return the parts without, and those with, the last so many keys; a part is cut if need be."""
    first, last = list(parts), Parts()
    while first and keys > 0:
        part = first.pop()
        if len(part) > keys:
            first.append(part[:-keys])
            part = part[-keys:]
        last.insert(0, part)
        keys -= len(part)
    return first, last
