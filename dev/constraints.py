"""`make constraints`: write the newest versions that fit together into the constraints files.

pip only looks up what it would install, and installs nothing. A file with a line `--constraint` gets what its
dependency group has more than the file that it names. Look at the difference, then run the tests.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from dev.airflow import ROOT

REQUIREMENTS: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
# A file, and what it pins, in pip's words. A file comes after the one that it names.
FILES = {
    "constraints.txt": (*REQUIREMENTS, "--group", "dev"),
    "constraints-cluster.txt": ("--group", "cluster"),
    "constraints-s3.txt": ("--group", "s3"),
    "constraints-bench.txt": ("--group", "bench"),
    "constraints-docs.txt": ("--group", "docs"),
    "constraints-audit.txt": ("--group", "audit"),
}
# A new environment of Python 3.11 has it, and no package asks for it.
OF_VENV = re.compile(r"^setuptools==.+$", re.MULTILINE)
NAMED = re.compile(r"^--constraint (\S+)$", re.MULTILINE)


def main() -> int:
    """Write the files, print what changed, and return the exit status."""
    for name, wanted in FILES.items():
        path = ROOT / name
        before = path.read_text()
        text = renewed(before, resolved(before, wanted))
        path.write_text(text)
        old, new = set(before.splitlines()), set(text.splitlines())
        print(f"{name}:", *(sorted(f"  - {line}" for line in old - new)), sep="\n")
        print(*(sorted(f"  + {line}" for line in new - old) or ["  nothing new"]), sep="\n", flush=True)
    return 0


def resolved(text: str, wanted: tuple[str, ...]) -> dict[str, str]:
    """Return the name and version of each package that pip would install.

    Args:
        text: a constraints file, of which only the line `--constraint` counts.
        wanted: arguments for `pip install`.

    Raises:
        subprocess.CalledProcessError: pip can't resolve them; its output is on the terminal.
    """
    limits = [argument for name in NAMED.findall(text) for argument in ("--constraint", name)]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--no-input"]
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        options = ["install", "--dry-run", "--ignore-installed", "--report", report.name]
        subprocess.run([*pip, *options, *limits, *wanted], cwd=ROOT, check=True)
        found = json.loads(Path(report.name).read_text())["install"]
    return {one["metadata"]["name"]: one["metadata"]["version"] for one in found}


def renewed(text: str, versions: dict[str, str]) -> str:
    """Return a constraints file with other versions: its comment, the file that it names, and the pins."""
    head = [line for line in text.splitlines() if line.startswith(("#", "--constraint"))]
    below = {name for file in NAMED.findall(text) for name in _pinned(file)}
    pins = [f"{name}=={version}" for name, version in versions.items() if _plain(name) not in below]
    pins += [pin for pin in OF_VENV.findall(text) if pin.partition("==")[0] not in versions]
    return "\n".join([*head, *sorted(pins, key=str.lower)]) + "\n"


def _pinned(file: str) -> set[str]:
    """Return the names in a constraints file and in those that it names."""
    text = (ROOT / file).read_text()
    names = {_plain(name) for name in re.findall(r"^([\w.-]+)==", text, re.MULTILINE)}
    return names.union(*(_pinned(name) for name in NAMED.findall(text)))


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())
