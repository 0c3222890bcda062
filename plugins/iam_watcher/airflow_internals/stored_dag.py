"""Reads a DAG as Airflow stores it: JSON with names that Airflow does not promise to keep.

The page reads it, because it must not run DAG files. The public names of a DAG need the whole DAG as objects,
and the classes of its operators and timetable, which the API server may not have.
tests/unit/test_stored_dag.py stores a DAG for each name here, and fails when Airflow changes one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DAG = "dag"  # the DAG itself, beside the version of the form
VALUE = "__var"  # the value of whatever Airflow stores with its type: tasks, params, timetables, dicts
IS_MAPPED = "_is_mapped"  # true of a task of `expand` or `expand_kwargs`
PARTIAL = "partial_kwargs"  # the arguments that `partial` got
EXPANDED = "expand_input"  # what `expand` or `expand_kwargs` got: `type` and `value`
BY_ARGUMENTS = "dict-of-lists"  # the type of what `expand` gets; `expand_kwargs` gets a list of dicts
NO_OVERRIDE = "_disallow_kwargs_override"  # true if a part can't set again what `partial` got
TRIGGER, TRIGGER_ARGUMENTS = "classpath", "kwargs"  # the class of a trigger of an asset; its arguments


def stored_tags(data: Mapping[str, Any]) -> list[str]:
    """Return the tags of a stored DAG."""
    return [str(tag) for tag in data.get(DAG, {}).get("tags", ())]


def stored_tasks(data: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return task id → the fields of the task, of a stored DAG."""
    tasks = [task[VALUE] for task in data.get(DAG, {}).get("tasks", ())]
    return {task["task_id"]: task for task in tasks}


def stored_timetable(data: Mapping[str, Any]) -> Any:
    """Return what the timetable of a stored DAG was serialized as; None if it was not."""
    return data.get(DAG, {}).get("timetable", {}).get(VALUE)


def stored_params(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return name of a param → its default, of a stored DAG."""
    found = {}
    for name, param in data.get(DAG, {}).get("params", ()):
        default = param.get("default") if isinstance(param, dict) else None
        found[name] = default.get(VALUE) if isinstance(default, dict) else default
    return found


def stored_triggers(stored: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield class and arguments of the triggers in a part of a stored DAG, however deep they are."""
    if isinstance(stored, list):
        for part in stored:
            yield from stored_triggers(part)
    elif isinstance(stored, dict):
        if isinstance(stored.get(TRIGGER), str) and TRIGGER_ARGUMENTS in stored:
            yield stored[TRIGGER], stored[TRIGGER_ARGUMENTS]
        else:
            yield from stored_triggers(list(stored.values()))


def stored_values(task: Mapping[str, Any], name: str, default: Any = None) -> list[Any]:
    """Return an argument of a task, as far as the DAG file itself says it: of a mapped task, of each part."""
    if not task.get(IS_MAPPED):
        return [task.get(name, default)]
    partial = task.get(PARTIAL, {})
    default = partial.get(name, default)
    mapped = task.get(EXPANDED, {})
    value = mapped.get("value")
    if mapped.get("type") == BY_ARGUMENTS:
        found = value[VALUE].get(name, [default])
        return found if isinstance(found, list) else []
    if isinstance(value, list):
        return [part[VALUE].get(name, default) for part in value]
    # What another task returns: it can't set again what `partial` set.
    return [default] if name in partial and task.get(NO_OVERRIDE) else []
