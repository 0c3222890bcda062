"""Tables whose rows belong to the rows of another table and are deleted with them, for DAG files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from iam_watcher import arguments
from iam_watcher.errors import JobArgumentError, shown_at_the_call

if TYPE_CHECKING:
    from collections.abc import Sequence

AUTO = "auto"


@shown_at_the_call
@dataclass(frozen=True)
class Child:
    """A table whose rows belong to rows of another table: `Child("order_lines", key="order_id")`.

    Attributes:
        table: name of the table.
        key: name of the column that says to which row of the parent table a row belongs; a list of names for
            several columns. If these columns have a foreign key, they refer to the columns that it names.
            Otherwise they refer to the primary key of the parent table, in the order of its columns. An index
            must begin with them.
        children: the tables whose rows belong to the rows of this table.
    """

    table: str
    key: str | Sequence[str]
    children: Sequence[Child] = ()

    def __post_init__(self) -> None:
        arguments.identifier("table", self.table)
        if not isinstance(self.key, str):
            arguments.listed_names("key", self.key)
            if not isinstance(self.key, (list, tuple)) or len(set(self.key)) < len(self.key):
                raise JobArgumentError(
                    f"key is {self.key!r}; expected a list that names each column once, in the order of the "
                    "columns of the parent's key"
                )
        if not self.columns:
            raise JobArgumentError(f"key is {self.key!r}; expected the name of a column, or a list of names")
        for name in self.columns:
            arguments.identifier("key", name)
        check_children(self.children)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns of the key."""
        return (self.key,) if isinstance(self.key, str) else tuple(self.key)


def check_children(value: object, *, may_be_auto: bool = False) -> None:
    """Check an argument `children`.

    Raises:
        JobArgumentError: it is no list of `Child`.
    """
    if may_be_auto and value == AUTO:
        return
    if isinstance(value, (list, tuple)) and all(isinstance(one, Child) for one in value):
        return
    auto = f", or {AUTO!r}" if may_be_auto else ""
    raise JobArgumentError(
        f'children is {value!r}; expected a list such as [Child("order_lines", key="order_id")]{auto}'
    )
