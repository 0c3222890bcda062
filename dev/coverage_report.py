"""`make coverage`: print the coverage of each package, and fail if one of the core is below its target.

Reads the data that `coverage run` wrote. Lines and branches count separately.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

import coverage

from dev.airflow import ROOT

PACKAGES = ROOT / "plugins" / "iam_watcher"
TARGET = 95.0  # per cent, of lines and of branches
# The packages and modules for which the target holds.
CORE = ("lock", "walk", "schedule", "process_rows")


def main() -> int:
    """Print a table and the lines that no test reached. Return 0 if the core reaches its target."""
    measured = coverage.Coverage(config_file=str(ROOT / "pyproject.toml"))
    measured.load()
    report = ROOT / ".run" / "coverage.json"
    measured.json_report(outfile=str(report))
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    missing = []
    for name, file in json.loads(report.read_text())["files"].items():
        facts = file["summary"]
        for part in _parts(Path(name)):
            numbers = ("covered_lines", "num_statements", "covered_branches", "num_branches")
            totals[part] = [old + facts[key] for old, key in zip(totals[part], numbers, strict=True)]
            if part in CORE and (file["missing_lines"] or file["missing_branches"]):
                missing.append((name, file["missing_lines"], file["missing_branches"]))
    print(f"{'':<22}{'lines':>10}{'branches':>10}")
    low = []
    for part, (lines, of_lines, branches, of_branches) in sorted(totals.items()):
        shares = 100 * lines / max(of_lines, 1), 100 * branches / of_branches if of_branches else 100.0
        print(f"{part:<22}{shares[0]:>9.1f}%{shares[1]:>9.1f}%")
        if part in CORE and min(shares) < TARGET:
            low.append(part)
    print("\nNot reached in the core:")
    for name, lines, branches in missing:
        print(f"  {name}: lines {lines}, branches {branches}")
    if low:
        print(f"\nBelow {TARGET} %: {', '.join(low)}")
    return int(bool(low))


def _parts(path: Path) -> list[str]:
    """Return the rows of the table to which a file belongs."""
    inside = (ROOT / path).relative_to(PACKAGES)
    parts = [inside.parts[0].removesuffix(".py")]
    if inside.name == "process_rows.py" or "row_processing" in inside.parts:
        parts.append("process_rows")
    return parts


if __name__ == "__main__":
    sys.exit(main())
