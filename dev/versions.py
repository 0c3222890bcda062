"""`make versions`: run the tests on each Python that is here, and with the oldest versions that are allowed.

Each environment is a folder below .run/versions. Its packages are those of constraints.txt, but for what the
environment is about. PYTHONS names the interpreters: programs or paths, separated by spaces.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dev.airflow import ROOT
from dev.constraints import REQUIREMENTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FOLDER = ROOT / ".run" / "versions"
PYTHONS = ("python3.11", "python3.12", "python3.13", "python3.14")
# Parts of the package, each with real servers. The versions of the tools are no subject of these tests.
TESTS = (
    "tests/unit",
    "tests/contract/test_lease.py",
    "tests/contract/test_quorum.py",
    "tests/integration/test_purge_rows.py",
    "tests/integration/test_disable_users.py",
    "tests/integration/test_process_rows_operator.py",
    "tests/dags/test_integrity.py",
    "tests/dags/test_runs.py",
)
# Packages whose versions are in the table, and the headings of their columns.
SHOWN = {
    "apache-airflow": "Airflow",
    "redis": "redis",
    "pydantic": "pydantic",
    **{
        f"apache-airflow-providers-{name}": f"{name} provider"
        for name in ("mysql", "redis", "smtp", "standard")
    },
}
# Prints what a Python of Debian is without, as the names of packages.
LACKS = """
import os, sys, sysconfig
name = "python%d.%d-" % sys.version_info[:2]
try:
    import ensurepip, venv
except ImportError:
    print(name + "venv")
if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
    print(name + "dev")
"""
# They come with a version of another package, which decides theirs.
DEPENDENT = re.compile(r"pydantic.core|apache-airflow-providers-.*")


@dataclass(frozen=True)
class Environment:
    """What is tested.

    Args:
        name: of its folder, and in the table.
        python: the program.
        pins: lines for pip's `--constraint`.
        is_old: whether its packages may leave files open, or use what newer ones call deprecated.
    """

    name: str
    python: str
    pins: list[str]
    is_old: bool = False

    @property
    def program(self) -> str:
        """The environment's own Python."""
        return str(FOLDER / self.name / "bin" / "python")

    def install(self) -> None:
        """Install the package's requirements and the tests' tools.

        Raises:
            subprocess.CalledProcessError: pip could not; its output is on the terminal.
        """
        FOLDER.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(FOLDER / self.name, ignore_errors=True)
        subprocess.run([self.python, "-m", "venv", str(FOLDER / self.name)], check=True)
        constraints = FOLDER / f"{self.name}.txt"
        constraints.write_text("\n".join(self.pins) + "\n")
        pip = [self.program, "-m", "pip", "--disable-pip-version-check", "--quiet", "--no-input", "install"]
        limits = ["--constraint", str(constraints)]
        subprocess.run([*pip, *limits, "--upgrade", "pip"], check=True)
        subprocess.run([*pip, *limits, "--only-deps", "."], cwd=ROOT, check=True)
        subprocess.run([*pip, *limits, "--group", "test"], cwd=ROOT, check=True)

    def test(self) -> str:
        """Run the tests and return the last line of their output."""
        options = ["-q", "-p", "no:cacheprovider", f"--basetemp={FOLDER / f'{self.name}-tests'}"]
        if self.is_old:
            options += [
                f"-Wignore::{kind}" for kind in ("FutureWarning", "DeprecationWarning", "ResourceWarning")
            ]
        done = subprocess.run(
            [self.program, "-m", "pytest", *options, *TESTS],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        (FOLDER / f"{self.name}.log").write_text(done.stdout)
        return str(done.stdout).strip().rpartition("\n")[2].strip("= ")

    def versions(self) -> list[str]:
        """Return the version of Python, and those of the packages that the table names."""
        code = (
            "import platform, sys; from importlib.metadata import version;"
            "print(platform.python_version(), *map(version, sys.argv[1:]))"
        )
        listed = [self.program, "-c", code, *SHOWN]
        done = subprocess.run(listed, stdout=subprocess.PIPE, text=True, check=True)
        return str(done.stdout).split()

    def lacks(self) -> list[str]:
        """Return the Debian packages without which this Python has no environments, and compiles nothing."""
        done = subprocess.run([self.python, "-c", LACKS], stdout=subprocess.PIPE, text=True, check=True)
        return str(done.stdout).split()


def main() -> int:
    """Test each environment, print the table, and return 0 if all tests passed."""
    rows: dict[str, list[str]] = {}
    failed = False
    for environment in environments():
        print(f"{environment.name}: installing", flush=True)
        try:
            environment.install()
        except subprocess.CalledProcessError as error:
            lacks = "".join(f"; {package} is not installed" for package in environment.lacks())
            rows[environment.name] = [f"failed with exit status {error.returncode}: {error.cmd[2]}{lacks}"]
            failed = True
            continue
        print(f"{environment.name}: testing", flush=True)
        result = environment.test()
        failed |= re.fullmatch(r"\d+ passed.*", result) is None or "failed" in result
        rows[environment.name] = [*environment.versions(), result]
    print(*table(rows), sep="\n")
    return int(failed)


def table(rows: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the lines of a table of environments.

    Args:
        rows: name of an environment → its versions, if there are any, and its result.
    """
    head = ["environment", "Python", *SHOWN.values(), "result"]
    lines = [head, ["---"] * len(head)]
    for name, (*versions, result) in rows.items():
        lines.append([name, *versions, *[""] * (len(head) - len(versions) - 2), result])
    return [f"| {' | '.join(line)} |" for line in lines]


def environments() -> list[Environment]:
    """Return an environment for each Python that is here, and one for the oldest versions.

    An interpreter that is not here is named on the terminal.
    """
    named = os.environ.get("PYTHONS", "").split() or list(PYTHONS)
    here = [program for name in named if (program := shutil.which(name))]
    for name in sorted(set(named) - set(here)):
        if shutil.which(name) is None:
            print(f"{name} is not on this machine, so it is not tested", flush=True)
    newest = _pins()
    found = [Environment(f"newest-{_version(program)}", program, newest) for program in here]
    if here:
        found.append(Environment(f"oldest-{_version(here[0])}", here[0], _oldest(newest), is_old=True))
    return found


def _version(program: str) -> str:
    """Return the version of an interpreter: two may have the same name."""
    code = "import platform; print(platform.python_version())"
    return subprocess.run([program, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def _pins() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _oldest(newest: list[str]) -> list[str]:
    """Return the pins with the lowest version of each direct dependency but Airflow."""
    lowest = {}
    for requirement in map(Requirement, REQUIREMENTS):
        if requirement.name != "apache-airflow":
            (bound,) = [clause.version for clause in requirement.specifier if clause.operator == ">="]
            lowest[canonicalize_name(requirement.name)] = bound
    kept = [pin for pin in newest if _name(pin) not in lowest and not DEPENDENT.fullmatch(_name(pin))]
    return [*kept, *(f"{name}=={bound}" for name, bound in lowest.items())]


def _name(pin: str) -> str:
    return canonicalize_name(pin.partition("==")[0])


if __name__ == "__main__":
    sys.exit(main())
