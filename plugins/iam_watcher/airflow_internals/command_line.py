"""Names of Airflow that commands of a provider need. Loaded by the command `airflow`, and by nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

__all__ = ["ActionCommand", "GroupCommand", "arguments"]


class _Arguments(Arg):
    """All arguments of a command, which a function adds to the command's parser."""

    def __init__(self, add: Callable[[argparse.ArgumentParser], None]) -> None:
        super().__init__(flags=("arguments",))  # type: ignore[no-untyped-call]
        self._add = add

    def add_to_parser(self, parser: argparse.ArgumentParser) -> None:
        self._add(parser)


def arguments(add: Callable[[argparse.ArgumentParser], None]) -> Arg:
    """Return what an ActionCommand needs so that `add` can add its arguments."""
    return _Arguments(add)
