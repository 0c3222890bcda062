"""Reads the settings file, include/iam-watcher.yaml, into frozen objects, and checks every value in it.

The keys are those of the Go iam-watcher, so its file works unchanged. A value may be `${NAME}`, which is read
from the environment. A DAG file uses `from iam_watcher import settings`, then
`settings.clean.max_reserve_days`. If the settings file is not valid, that DAG file has an import error.

Parsing a DAG file imports this module alone, so all checks of the file are in it: hence the length.
"""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from iam_watcher.arguments import MOST_DAYS
from iam_watcher.errors import SettingsError
from iam_watcher.log_lines import get_logger

Days = Annotated[int, Field(strict=True, ge=0, le=MOST_DAYS)]
DryRun = Annotated[bool, Field(strict=True, description="Scheduled runs of this watcher are dry runs.")]

# Blocks of the Go program's file, and what replaces each of them in Airflow.
REPLACED = {
    "mysql": "the Airflow connection iam_mysql",
    "redis": "the Airflow connection iam_redis",
    "log": "Airflow's [logging] options",
    "health-check-path": "the health address /iam-watcher/health at the URL of Airflow",
    "health-check-address": "the health address /iam-watcher/health at the URL of Airflow",
}
# Too short for a secret.
_SAFE_TO_SHOW = re.compile(r"-?\d{1,5}(\.\d{1,3})?|true|false", re.IGNORECASE)

_INTEGER, _FLOAT, _NULL = (f"tag:yaml.org,2002:{name}" for name in ("int", "float", "null"))
_NULLS = ("", "~", "null", "Null", "NULL")
_KINDS: dict[type, str] = {list: "a list", dict: "a mapping", type(None): "no value"}
_PLAIN_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")

Place = tuple[str, ...]
"""The path of keys to a value: ("watcher", "task", "max-inactive-days")."""


class _Block(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=lambda name: name.replace("_", "-")
    )


class Task(_Block):
    """`watcher.task`: the settings of `disable_inactive_users`."""

    max_inactive_days: Days = Field(
        default=0,
        description="Disable users who have not logged in for more than this many days. 0 turns the job off.",
    )
    dry_run: DryRun = False


class Clean(_Block):
    """`watcher.clean`: the settings of `clean_policy_audit`."""

    max_reserve_days: Days = Field(
        default=0,
        description="Delete audit rows of policies that were deleted more than this many days ago. "
        "0 turns the job off.",
    )
    dry_run: DryRun = False


class Cleansecret(_Block):
    """`watcher.cleansecret`: the settings of `clean_expired_secrets`."""

    dry_run: DryRun = False


class Settings(_Block):
    """The block `watcher`: one block for each watcher of IAM, named after its lock.

    If `dry_run` is set, scheduled runs are dry runs.
    """

    task: Task = Task()
    clean: Clean = Clean()
    cleansecret: Cleansecret = Cleansecret()


# What `from iam_watcher import settings` offers, see __getattr__.
task: Task
clean: Clean
cleansecret: Cleansecret


def load(path: Path) -> Settings:
    """Return the settings in the YAML file `path`.

    Raises:
        SettingsError: the file is not valid. Names file, line, key and what was expected, and the value
            unless it could be a secret.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}; expected a readable YAML file") from error
    try:
        return _File(path, text).settings()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise SettingsError(
            f"{path}{line}: not YAML: {getattr(error, 'problem', None) or 'unreadable'}"
        ) from None
    except RecursionError:
        raise SettingsError(f"{path}: too many brackets or blocks inside each other") from None


def find() -> Path | None:
    """Return the path of the settings file, or None if there is no settings file.

    The path is `[iam_watcher] settings_file`; that file must exist. If the option is empty, the path is
    include/iam-watcher.yaml beside Airflow's plugins folder, if that file exists.
    """
    from airflow.configuration import conf

    if named := conf.get("iam_watcher", "settings_file", fallback=""):
        return Path(named).expanduser()
    default = Path(conf.get("core", "plugins_folder")).parent / "include" / "iam-watcher.yaml"
    return default if default.exists() else None


def __getattr__(name: str) -> Any:
    """Return a block of the current settings: `settings.task`, `settings.clean`."""
    if name not in Settings.model_fields:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    path = find()
    try:
        return getattr(Settings() if path is None else load(path), name)
    except SettingsError as error:
        # From here, so that the line of the DAG file is among the two that Airflow shows.
        raise error.with_traceback(None)  # noqa: B904  it is the error itself


class _File:
    """A settings file as YAML nodes, which have line numbers."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._loader = yaml.SafeLoader(text)
        self._lines: dict[Place, int] = {}
        self._variables: dict[Place, str] = {}

    def settings(self) -> Settings:
        root = self._loader.get_single_node()
        if root is None or _is_null(root):
            return Settings()
        if not isinstance(root, yaml.MappingNode):
            got = "a list" if isinstance(root, yaml.SequenceNode) else "a single value"
            raise self._error(root, f"expected a mapping with the key 'watcher', got {got}")
        _each_key_once(root, self._error, inside=[], seen=set())
        self._loader.flatten_mapping(root)
        nodes = {str(key.value): (key, value) for key, value in root.value}
        for name, (key, _) in nodes.items():
            if name != "watcher" and name not in REPLACED:
                expected = f"'watcher' (or {', '.join(REPLACED)})"
                raise self._error(key, f"unknown key {name!r}; expected {expected}")
        _say_what_is_replaced(self._path, tuple(name for name in nodes if name in REPLACED))
        if "watcher" not in nodes or _is_null(nodes["watcher"][1]):
            return Settings()
        try:
            return Settings.model_validate(self._value(nodes["watcher"][1], ("watcher",)))
        except ValidationError as error:
            raise SettingsError("; ".join(map(self._fault, error.errors()))) from None

    def _value(self, node: yaml.Node, place: Place) -> Any:
        """Return the value of a node, with `${NAME}` replaced by the environment's value."""
        self._lines[place] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            self._loader.flatten_mapping(node)
            # Every key at a deeper level is unknown, so its value need not be read.
            deepest = len(place) > len(("watcher", "task"))
            return {
                str(key.value): None if deepest else self._value(value, (*place, str(key.value)))
                for key, value in node.value
            }
        if not isinstance(node, yaml.ScalarNode):
            return []  # wherever it is, a list is not valid
        if _is_null(node) and len(place) == len(("watcher", "task")):
            return {}  # a block whose last key was removed
        if (node.tag == _INTEGER and not _PLAIN_INTEGER.fullmatch(node.value)) or (
            node.tag == _FLOAT and ":" in node.value
        ):
            raise self._error(
                node,
                f"YAML reads {'.'.join(place)} as octal, base 60 or a similar form"
                f"{_shown(node.value)}; expected a plain number such as 180",
            )
        if match := re.fullmatch(r"\$\{(\w+)\}", node.value.strip()):
            return self._from_environment(node, place, match[1])
        try:
            return self._loader.construct_object(node)
        except (ValueError, KeyError, AttributeError):  # the last two: of a tag that the value doesn't fit
            raise self._error(node, f"{'.'.join(place)} has a value that YAML can't read") from None

    def _from_environment(self, node: yaml.Node, place: Place, name: str) -> Any:
        if name not in os.environ:
            key = ".".join(place)
            raise self._error(node, f"{key} is ${{{name}}}, but the environment has no {name}; set it")
        self._variables[place] = name
        text = os.environ[name].strip()
        if re.fullmatch(r"-?\d{1,9}", text):
            return int(text)
        return {"true": True, "false": False}.get(text.lower(), text)

    def _fault(self, fault: Any) -> str:
        place = ("watcher", *(str(part) for part in fault["loc"]))
        key = ".".join(place)
        at = f"{self._path}, line {self._lines.get(place, self._lines['watcher',])}"
        if fault["type"] == "extra_forbidden":
            return f"{at}: unknown key {key!r}; expected one of {', '.join(_known_keys())}"
        expected = (
            f"a whole number of days from 0 (off) to {MOST_DAYS}"
            if key.endswith("days")
            else "true or false"
            if key.endswith("dry-run")
            else "a mapping"
        )
        if place in self._variables:
            return f"{at}: {key}: expected {expected}, got the value of ${{{self._variables[place]}}}"
        return f"{at}: {key}: expected {expected}{_shown(fault['input'])}"

    def _error(self, node: yaml.Node, what: str) -> SettingsError:
        return SettingsError(f"{self._path}, line {node.start_mark.line + 1}: {what}")


def _each_key_once(node: yaml.Node, error: Any, *, inside: list[yaml.Node], seen: set[int]) -> None:
    """Refuse a mapping that has a key twice (YAML would use the last), and a node that contains itself."""
    if any(node is outer for outer in inside):
        raise error(inside[-1], "an alias (*name) is inside the value that it names; write the value out")
    if id(node) in seen or isinstance(node, yaml.ScalarNode):
        return
    seen.add(id(node))
    parts: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                raise error(key, f"the key {name!r} is given twice, first in line {lines[name]}; remove one")
            lines[name] = line
            parts += [key, value]
    else:
        parts = node.value
    for part in parts:
        _each_key_once(part, error, inside=[*inside, node], seen=seen)


def _is_null(node: yaml.Node) -> bool:
    """Return whether the value is left out, or is a null that is written out."""
    return isinstance(node, yaml.ScalarNode) and node.tag == _NULL and node.value in _NULLS


def _shown(value: object) -> str:
    for kind, name in _KINDS.items():
        if isinstance(value, kind):
            return f", got {name}"
    return f", got {value!r}" if _SAFE_TO_SHOW.fullmatch(str(value)) else ", got something else"


@functools.lru_cache(maxsize=8)
def _say_what_is_replaced(path: Path, keys: tuple[str, ...]) -> None:
    for key in keys:
        get_logger(__name__).info("%s: %r is not read; use %s", path, key, REPLACED[key])


def _known_keys() -> list[str]:
    blocks = Settings.model_fields.items()
    return [
        f"watcher.{block}.{key.replace('_', '-')}"
        for block, field in blocks
        for key in field.annotation.model_fields  # type: ignore[union-attr]
    ]
