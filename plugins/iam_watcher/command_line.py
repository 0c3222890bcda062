"""The commands `airflow iam-watcher …`. Only an installed wheel adds them to Airflow's command line.

Each command is also a program of its own, `python -m <module>`, which works from the plugins folder too.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from iam_watcher.airflow_internals import command_line as airflow

if TYPE_CHECKING:
    import argparse

# A command, its module (which has `add_arguments` and `run`) and a line of help.
COMMANDS = (
    ("doctor", "iam_watcher.doctor.__main__", "Check this deployment, and say what is wrong and what to do"),
    ("import", "iam_watcher.importer.__main__", "Write watcher files for the jobs of another system"),
    ("lock", "iam_watcher.lock.__main__", "List the locks, show one, or release one by force"),
    ("schedule", "iam_watcher.schedule.__main__", "Print the next scheduled times of a spec"),
)


def get_commands() -> list[Any]:
    """Return the group `iam-watcher` with its commands, as Airflow's command line takes them."""
    return [
        airflow.GroupCommand(
            name="iam-watcher",
            help="Checks, locks, schedules and imports of iam-watcher",
            subcommands=[_command(*command) for command in COMMANDS],
        )
    ]


def _command(name: str, module: str, text: str) -> Any:
    program = import_module(module)

    def run(given: argparse.Namespace) -> None:
        if name == "schedule" and given.timezone is None:
            from iam_watcher.timetables import default_timezone

            given.timezone = default_timezone()
        # Airflow does not look at what a command returns.
        sys.exit(program.run(given))

    return airflow.ActionCommand(
        name=name, help=text, func=run, args=(airflow.arguments(program.add_arguments),)
    )
