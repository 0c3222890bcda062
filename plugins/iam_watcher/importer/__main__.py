"""Write watcher files for the jobs of another system: `python -m iam_watcher.importer crontab FILE`."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iam_watcher.importer.job import Found

_LOCALTIME = Path("/etc/localtime")
_TIMEZONE = Path("/etc/timezone")  # Debian's name of the zone
_WITH_USER = re.compile(r"([\w.-]+)[ \t]+[^\s&|;<>)=#-].*", re.DOTALL)
_USERS = frozenset({"root", "nobody", "www-data", "apache", "wwwrun", "ubuntu", "ec2-user"})  # no programs


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files and print the report.

    Returns:
        0 if every job has a file, 1 if one has none, 2 if the input can't be read or the
        folder can't be made.
    """
    parser = argparse.ArgumentParser(
        prog="python -m iam_watcher.importer",
        description="Write a watcher file, paused, for each job of another system, and report each.",
    )
    add_arguments(parser)
    return run(parser.parse_args(arguments))


def run(options: argparse.Namespace) -> int:
    """Write the files that the parsed arguments ask for, print the report, return a status as `main` does."""
    from iam_watcher.importer.job import NotTranslated
    from iam_watcher.importer.write import write

    try:
        has_zone = "timezone" in vars(options)
        if has_zone:
            options.timezone = options.timezone or _timezone()
        # cron takes bytes; those that are not UTF-8 come back as they were when a command is run.
        raw = sys.stdin.buffer.read() if options.file == "-" else Path(options.file).read_bytes()
        found = _read(options, raw.decode("utf-8", "surrogateescape"))
        if has_zone:
            found.notes.append(f"times without a zone are read in {options.timezone}")
    except (OSError, NotTranslated) as error:
        sys.stderr.write(f"{options.file}: {error}\n")
        return 2
    try:
        outcome = write(found, Path(options.output), prefix=options.prefix)
    except OSError as error:
        sys.stderr.write(f"--output {options.output}: {error}; expected a folder, or one that can be made\n")
        return 2
    for line in outcome.lines:
        sys.stdout.write(f"{line}\n")
    return 0 if outcome.complete else 1


def _read(options: argparse.Namespace, text: str) -> Found:
    from iam_watcher.importer import dkron, go_watcher, kubernetes
    from iam_watcher.importer.anacrontab import Anacrontab
    from iam_watcher.importer.crontab import Crontab

    name = "standard input" if options.file == "-" else Path(options.file).name
    if options.source == "crontab":
        system = options.system or (options.user is None and _is_system(Path(options.file)))
        found = Crontab(name, options.timezone, system=system, user=options.user).read(text)
        if not system and (user := _user_in_each(found)):
            found.notes.append(
                f"each command begins with a user, such as {user!r}: {name} looks like a crontab of the "
                "system. If it is one, delete the files, and import it again with --system"
            )
        if "." in name and Path(options.file).absolute().parent.name == "cron.d":
            found.notes.append(
                f"Debian's cron ignores {name}: the name of a file in /etc/cron.d may have no dot"
            )
        return found
    if options.source == "anacrontab":
        return Anacrontab(name, options.timezone, user=options.user).read(text)
    if options.source == "dkron":
        return dkron.read(text, name, options.timezone, options.prefix)
    if options.source == "kubernetes":
        return kubernetes.read(text, name, options.timezone)
    return go_watcher.read(text, name)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a command for each system that jobs come from, with its arguments."""
    sources = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")
    sources.add_parser("crontab", help="a crontab; in /etc/crontab and /etc/cron.d each line has a user")
    sources.add_parser("anacrontab", help="an anacrontab: jobs that run once in so many days")
    sources.add_parser("dkron", help="the answer of dkron's /v1/jobs, as JSON")
    sources.add_parser("kubernetes", help="YAML with CronJobs")
    sources.add_parser("iam-watcher", help="the settings file of the Go iam-watcher")
    for name, source in sources.choices.items():
        source.add_argument(
            "file", metavar="FILE", help="the file with the jobs, or - for the standard input"
        )
        source.add_argument(
            "--output", default="dags", metavar="FOLDER", help="folder for the watcher files (default: dags)"
        )
        source.add_argument(
            "--prefix", type=_prefix, default="", help="prefix of each watcher's name, such as web1_"
        )
        if name != "iam-watcher":
            source.add_argument(
                "--timezone",
                help="time zone of jobs that name no time zone (default: this machine's)",
            )
        if name == "crontab":
            source.add_argument(
                "--user", help="user whose crontab it is (default: the worker's user runs the commands)"
            )
            source.add_argument(
                "--system", action="store_true", help="each line has a user before the command"
            )
        if name == "anacrontab":
            source.add_argument(
                "--user", default="root", help="user who runs the commands (default: %(default)s)"
            )


def _prefix(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_.-]{0,100}", text):
        return text
    raise argparse.ArgumentTypeError(f"{text!r}; expected up to 100 letters, digits, '_', '.' or '-'")


def _is_system(path: Path) -> bool:
    return path.absolute() == Path("/etc/crontab") or path.absolute().parent.name == "cron.d"


def _user_in_each(found: Found) -> str | None:
    """Return a user whose name stands before a command, if each command can have a user before it."""
    from iam_watcher.importer.job import Job

    jobs = (entry.task for entry in found.entries if isinstance(entry, Job))
    words = [_WITH_USER.fullmatch(task.arguments["command"]) for task in jobs if task is not None]
    users = [match[1] for match in words if match is not None]
    if len(users) < len(words):
        return None
    return next((user for user in users if user in _USERS), None)


def _timezone() -> str:
    """Return the tz database name of this machine's zone; UTC if the machine has no zone.

    Raises:
        NotTranslated: the machine has a zone without a name.
    """
    from iam_watcher.importer.job import NotTranslated

    if name := os.environ.get("TZ", "").removeprefix(":"):
        return name
    try:
        _, found, name = str(_LOCALTIME.resolve()).partition("/zoneinfo/")
        if found:
            return name.removeprefix("Etc/")
        if not _LOCALTIME.exists():
            return "UTC"
        name = _TIMEZONE.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        name = ""
    if not re.fullmatch(r"[A-Za-z][\w+/-]*", name):
        raise NotTranslated(
            f"this machine's time zone has no name: {_LOCALTIME} is no link to a zone, and {_TIMEZONE} has "
            "no name. Set --timezone, such as --timezone Europe/Berlin"
        )
    return name.removeprefix("Etc/")


if __name__ == "__main__":
    sys.exit(main())
