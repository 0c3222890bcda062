"""Checks the conf of a run, from a person or another DAG, against the params.

Airflow ignores a key that is not a param: a run with `{"dry-run": true}` would use the defaults, and delete
rows. If `[core] dag_run_conf_overrides_params` is False, Airflow ignores the whole conf.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from iam_watcher.arguments import letters, nearest
from iam_watcher.errors import RunConfError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

DRY_RUN = "dry_run"
NEAR = 0.85  # how much a misspelt argument resembles the right one; see difflib
MEANS_DRY_RUN = re.compile("(is|as|only)?dryrun(mode|only)?")  # of letters, see arguments.letters

# TriggerDagRunOperator adds this key where OpenLineage is in use.
AIRFLOWS_KEYS = frozenset({"openlineage"})


def check(
    conf: Mapping[str, Any] | None,
    *,
    names: Collection[str],
    values: Mapping[str, Any],
    allowed: Collection[str] = (),
) -> None:
    """Check that each key of a run's conf is a param, and that the tasks see its value.

    Args:
        conf: the conf of the run.
        names: the names of all params, also the params of single tasks.
        values: the values of the params, as a task of this run sees them.
        allowed: keys that don't have to be params.

    Raises:
        RunConfError: a key is not a param, or has no effect. The error names the keys, the nearest param and
            what to do. It shows no value.
    """
    given = {key: value for key, value in (conf or {}).items() if key not in AIRFLOWS_KEYS}
    if unknown := sorted(set(given) - set(names) - set(allowed)):
        raise RunConfError(
            f"{_listed(unknown)} {'is not a param' if len(unknown) == 1 else 'are not params'} of this DAG"
            f"{_suggestion(unknown, names)} {_expected(names)}. Correct the conf and trigger a new run"
            f"{_advice(unknown, names)}"
        )
    if lost := sorted(key for key in set(given) & set(names) if _json(values.get(key)) != _json(given[key])):
        raise RunConfError(
            f"the conf sets {_listed(lost)}, but the tasks see other values. Airflow ignores the conf of a "
            "run if [core] dag_run_conf_overrides_params is False. Set it to True on all machines, then "
            "trigger a new run"
        )


def check_slips(
    conf: Mapping[str, Any] | None,
    *,
    names: Collection[str],
    values: Mapping[str, Any],
    allowed: Collection[str] = (),
) -> None:
    """Check that no key of the conf is a misspelled param, or a misspelled `dry_run`.

    Used for a job in any DAG: other tasks of the DAG may use keys that are not params. For arguments and
    errors see `check`.
    """
    known = {letters(name) for name in names}
    slips = {key for key in conf or {} if letters(key) in known}.union(named_dry_run(conf or {}))
    others = set(conf or {}) - {*names} - slips
    check(conf, names=names, values=values, allowed={*allowed, *others})


def named_dry_run(names: Collection[str]) -> list[str]:
    """Return the names by which a person can mean `dry_run`, such as `dryRun` and `is_dry_run`."""
    return [name for name in names if MEANS_DRY_RUN.fullmatch(letters(name))]


def meant(name: str, names: Collection[str]) -> str | None:
    """Return the one of the names that a misspelt name means, or None if it resembles none of them."""
    if DRY_RUN in names and named_dry_run([name]):
        return DRY_RUN
    return next(iter(nearest([name], names, cutoff=NEAR)), None)


def _json(value: Any) -> str:
    """Return the value as JSON, as a conf has it: a tuple is a list, and 1 is not true."""
    return json.dumps(value, sort_keys=True, default=str)


def _suggestion(unknown: Collection[str], names: Collection[str]) -> str:
    found = nearest(unknown, names)
    return f"; did you mean {_listed(found)}?" if found else "."


def _advice(unknown: Collection[str], names: Collection[str]) -> str:
    if named_dry_run(unknown):
        if named_dry_run(names):
            return ""
        return (
            f'. For a dry run, the DAG needs params={{"{DRY_RUN}": False}}, and each of its jobs '
            f'{DRY_RUN}="{{{{ params.{DRY_RUN} }}}}"'
        )
    key = next(iter(unknown))
    return f". To let a Watcher allow a key that is not a param, add it in the DAG file: conf_keys=[{key!r}]"


def _expected(names: Collection[str]) -> str:
    return f"Its params: {', '.join(sorted(names))}" if names else "It has no params"


def _listed(names: Collection[str]) -> str:
    return ", ".join(repr(name) for name in names)
