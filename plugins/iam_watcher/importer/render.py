"""A job as the text of a watcher file. Values are written by `repr()`, so that none of them can be code."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from iam_watcher.importer.job import Call

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from iam_watcher.importer.job import Job

_WIDTH = 100
_INDENT = "    "
_REQUEST = """\
answer = httpx.request(
    {method}, {url}, headers={headers}, content={body}, timeout={timeout}, follow_redirects=True
)
"""
_CODES = """\
codes = {codes}
if str(answer.status_code) not in codes:
    raise RuntimeError(f"HTTP status {{answer.status_code}}; expected one of {{codes}}")
"""
_PATTERN = """\
if not re.search({pattern}, answer.text):
    raise RuntimeError("the body is not as expected")
"""
# The body of a function: {name} is the repr() of a value. So it never stands inside of a text.
BODIES = {
    "request": _REQUEST.removeprefix("answer = "),
    "request_codes": _REQUEST + _CODES,
    "request_pattern": _REQUEST + _PATTERN,
    "request_codes_pattern": _REQUEST + _CODES + _PATTERN,
    "missing": """\
raise NotImplementedError({what})
""",
}
_IMPORTS = {
    "request": ("httpx",),
    "request_codes": ("httpx",),
    "request_pattern": ("re", "httpx"),
    "request_codes_pattern": ("re", "httpx"),
    "missing": (),
}
_STANDARD = ("datetime", "re")


def render(job: Job, name: str) -> str:
    """Return the text of the watcher file of a job, with that name for the watcher."""
    watcher = {"is_paused_upon_creation": True, **job.watcher}
    names: dict[str, set[str]] = {"iam_watcher": {"watcher" if job.function else "Watcher"}}
    for call in _calls([job.task, watcher]):
        names.setdefault(call.module, set()).add(call.name)
    used = [*_IMPORTS[job.function[0]]] if job.function else []
    if "datetime." in repr((watcher, job.task)):
        used.append("datetime")
    lines = [f"from {module} import {', '.join(sorted(found))}" for module, found in sorted(names.items())]
    theirs = [line for line in lines if line.startswith("from airflow.")]
    imports = [
        [f"import {one}" for one in sorted(used) if one in _STANDARD],
        [*(f"import {one}" for one in sorted(used) if one not in _STANDARD), *theirs],
        [line for line in lines if line not in theirs],
    ]
    blocks = [_docstring(job), *("\n".join(block) for block in imports if block)]
    arguments = [repr(name), *_arguments(watcher)]
    if job.function:
        body, values = job.function
        text = BODIES[body].format(**{key: repr(value) for key, value in values.items()})
        head = f"@{_call('watcher', arguments)}\ndef work() -> None:\n"
        blocks.append(f"\n{head}{textwrap.indent(text, _INDENT)}".rstrip())
    else:
        assert job.task is not None  # noqa: S101  one of the two, by the class
        task = _call(job.task.name, _arguments(job.task.arguments))
        blocks.append(f"with {_call('Watcher', arguments)}:\n{textwrap.indent(task, _INDENT)}")
    return "\n\n".join(blocks) + "\n"


def _docstring(job: Job) -> str:
    lines = [f"An Airflow DAG that runs {job.source}."]
    if job.differences:
        lines += ["", "What is different from there:", ""]
        lines += [f"- {difference}" for difference in job.differences]
    if len(lines) == 1:
        return repr(lines[0])
    texts = [f"{line}\n" for line in lines[:-1]] + lines[-1:]
    return "(\n" + "\n".join(_INDENT + repr(text) for text in texts) + "\n)"


def _calls(value: Any) -> Iterator[Call]:
    if isinstance(value, Call):
        yield value
        value = value.arguments
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _calls(inner)


def _arguments(arguments: Mapping[str, Any]) -> list[str]:
    return [f"{name}={_value(value)}" for name, value in arguments.items()]


def _value(value: Any) -> str:
    if isinstance(value, Call):
        positional = [_value(one) for name, one in value.arguments.items() if not name]
        named = [f"{name}={_value(one)}" for name, one in value.arguments.items() if name]
        return f"{value.name}({', '.join([*positional, *named])})"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return repr(value)


def _call(name: str, arguments: list[str]) -> str:
    """Return a call, on one line if it is short."""
    line = f"{name}({', '.join(arguments)})"
    if len(line) <= _WIDTH:
        return line
    return f"{name}(\n" + "".join(f"{_INDENT}{argument},\n" for argument in arguments) + ")"
