"""Names of Airflow that are used while a DAG file is parsed."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, XComArg, task
from airflow.sdk.bases.decorator import _TaskDecorator
from airflow.sdk.definitions._internal.contextmanager import DagContext
from airflow.sdk.definitions.mappedoperator import MappedOperator

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import BaseOperator, Context

# Where the files of the Task SDK are. Airflow shows the last two lines of a traceback, and a line of its own
# says nothing to the author of a DAG file.
SDK_FOLDER = Path(sys.modules[DAG.__module__].__file__ or "").parents[1]


def current_dag() -> DAG | None:
    """Return the DAG whose `with` block is open.

    `DagContext.get_current`. Airflow lets a DAG be made inside another one and then mixes up their tasks; a
    Watcher refuses that.
    """
    return DagContext.get_current()


def parsed_module() -> str | None:
    """Return the name of the module that Airflow parses at this moment; None outside of a parse.

    `DagContext.current_autoregister_module_name`. A Watcher may be made by a factory in another module, but
    the docs and errors of the Watcher belong to the DAG file.
    """
    return DagContext.current_autoregister_module_name


def is_defined_before(dag_id: str) -> bool:
    """Return whether the file that is parsed has a DAG of this name already.

    `DagContext.autoregistered_dags`. Airflow takes the second one and drops the first without a word.
    """
    parsed = parsed_module()
    return any(
        dag.dag_id == dag_id and module.__name__ == parsed for dag, module in DagContext.autoregistered_dags
    )


def is_mapped(operator: Any) -> bool:
    """Return whether the operator was made by `expand`.

    `MappedOperator`, which is no BaseOperator.
    """
    return isinstance(operator, MappedOperator)


def class_of(operator: Any) -> type:
    """Return the class of the operator that runs, also for a mapped task.

    `MappedOperator.operator_class`. The class of a mapped operator itself takes other arguments.
    """
    found: type = operator.operator_class if is_mapped(operator) else type(operator)
    return found


def partial_argument(operator: MappedOperator, name: str, default: Any = None) -> Any:
    """Return an argument that a mapped operator was given by `partial`.

    `MappedOperator.partial_kwargs`. A mapped operator has no attribute for an argument of its own class.
    """
    return operator.partial_kwargs.get(name, default)


def is_in_mapped_group(operator: Any) -> bool:
    """Return whether the operator is in a task group that was made by `expand`.

    `get_closest_mapped_task_group`. Such an operator is itself not mapped, and yet runs several times.
    """
    return operator.get_closest_mapped_task_group() is not None


def parts_of(operator: MappedOperator) -> list[BaseOperator] | None:
    """Return the operators that run in place of a mapped one, or None if only a run knows them.

    `MappedOperator.unmap`, and `resolve` of its expand input, which reads the map index of a task instance.

    Raises:
        Exception: what the constructor of the operator raises. Airflow calls it only in a run.
    """
    mapping: Any = _mapping_of(operator)
    given = mapping.value
    if is_in_mapped_group(operator) or any(True for _ in XComArg.iter_xcom_references(given)):
        return None
    count = math.prod(map(len, given.values())) if isinstance(given, Mapping) else len(given)
    contexts = ({"ti": SimpleNamespace(map_index=number)} for number in range(count))
    return [operator.unmap(mapping.resolve(context)[0]) for context in contexts]


def values_in_file(operator: MappedOperator, name: str, default: Any = None) -> list[Any]:
    """Return the values of an argument that the DAG file gives to a mapped operator, without those of a run.

    `MappedOperator.partial_kwargs` and its expand input.

    Args:
        operator: the mapped operator.
        name: of the argument.
        default: the value if nobody gives the argument.
    """
    mapping: Any = _mapping_of(operator).value
    owners = (one for one in (operator.dag, operator.task_group) if one is not None)
    defaults = {name: value for one in owners for name, value in one.default_args.items()}
    partial = partial_argument(operator, name, defaults.get(name, default))
    if isinstance(mapping, Mapping):  # of `expand`
        values = mapping.get(name, [partial])
        return list(values) if isinstance(values, Sequence) else []
    if isinstance(mapping, Sequence):  # of `expand_kwargs`
        return [part.get(name, partial) for part in mapping if isinstance(part, Mapping)]
    # Another task returns all arguments, but none that `partial` has.
    return [partial] if name in operator.partial_kwargs else []


def _mapping_of(operator: MappedOperator) -> Any:
    return operator._get_specified_expand_input()  # noqa: SLF001  see above


def wrap_pre_execute(operator: Any, before: Any) -> None:
    """Let `before` run before an operator's own `pre_execute`, in the process of the task.

    `BaseOperator._pre_execute_hook` keeps the argument `pre_execute`, which is public. Tasks inside a Watcher
    exist when the Watcher learns of them, so the argument comes too late. Airflow calls the hook before
    `execute`, and again before a deferred task resumes.
    """
    mapped = is_mapped(operator)
    own = partial_argument(operator, "pre_execute") if mapped else operator._pre_execute_hook  # noqa: SLF001  see above

    def pre_execute(context: Context) -> None:
        before(context)
        if own is not None:
            own(context)

    if mapped:
        operator.partial_kwargs["pre_execute"] = pre_execute
    else:
        operator._pre_execute_hook = pre_execute  # noqa: SLF001  see above


def add_callback(operator: Any, name: str, callback: Callable[[Context], None]) -> None:
    """Add a callback, such as `on_failure_callback`, to those that an operator was given.

    `MappedOperator.partial_kwargs`, and that an operator has its callbacks as a list. Tasks inside a Watcher
    exist when the Watcher learns of them, so the argument comes too late.
    """
    mapped = is_mapped(operator)
    given = partial_argument(operator, name) if mapped else getattr(operator, name)
    callbacks = [*(given if isinstance(given, list | tuple) else [given] if given else []), callback]
    if mapped:
        operator.partial_kwargs[name] = callbacks
    else:
        setattr(operator, name, callbacks)


def add_dag_callback(dag: DAG, name: str, callback: Callable[[Context], None]) -> None:
    """Add an `on_success_callback` or an `on_failure_callback` to those that a DAG was given.

    `DAG.has_on_success_callback` and `DAG.has_on_failure_callback`, by which the scheduler knows that there
    is one. A DAG sets them when it is made, from its arguments.
    """
    add_callback(dag, name, callback)
    setattr(dag, f"has_{name}", True)


def makes_tasks_by_a_call(value: Any) -> bool:
    """Return whether the value is a function under `@task`, or `task` itself.

    `_TaskDecorator`. A function under `@watcher` may not call one: nothing would run the task.
    """
    return isinstance(value, _TaskDecorator | type(task))
