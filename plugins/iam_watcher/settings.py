"""The settings file, include/iam-watcher.yaml, as frozen objects: every number in it is checked here.

The keys are those of the Go iam-watcher, so that its file can be used as it is. Values may be
`${NAME}`, which is taken from the environment. `from iam_watcher import settings` in a DAG file, then
`settings.clean.max_reserve_days`: a file that is not valid is an import error of that DAG file.
"""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from iam_watcher.errors import SettingsError
from iam_watcher.log_lines import get_logger

Days = Annotated[int, Field(strict=True, ge=0, le=36500)]

# Blocks of the Go program's file that Airflow's own means replace.
REPLACED = {
    "mysql": "the Airflow connection iam_mysql",
    "redis": "the Airflow connection iam_redis",
    "log": "Airflow's [logging] options",
    "health-check-path": "Airflow's own health checks",
    "health-check-address": "Airflow's own health checks",
}
_SAFE_TO_SHOW = re.compile(r"-?\d{1,9}(\.\d+)?|true|false", re.IGNORECASE)


class _Block(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=lambda name: name.replace("_", "-")
    )


class Task(_Block):
    """`watcher.task`: disable users who have not logged in for that many days; 0 is off."""

    max_inactive_days: Days = 0


class Clean(_Block):
    """`watcher.clean`: purge audit rows deleted longer ago than that many days; 0 is off."""

    max_reserve_days: Days = 0


class Settings(_Block):
    """The block `watcher`."""

    task: Task = Task()
    clean: Clean = Clean()


# What `from iam_watcher import settings` offers, see __getattr__.
task: Task
clean: Clean


def load(path: Path) -> Settings:
    """Return the settings in the YAML file `path`.

    Raises:
        SettingsError: naming file and key, what was expected, and the value unless it could be a secret.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}; expected a readable YAML file") from error
    try:
        document = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise SettingsError(
            f"{path}{line}: not YAML: {getattr(error, 'problem', None) or 'unreadable'}"
        ) from None
    if not isinstance(document, dict):
        raise SettingsError(
            f"{path}: expected a mapping with the key 'watcher', got {type(document).__name__}"
        )
    for key in document:
        if key != "watcher" and key not in REPLACED:
            raise SettingsError(f"{path}: unknown key {key!r}; expected 'watcher' (or {', '.join(REPLACED)})")
    _say_what_is_replaced(path, tuple(key for key in document if key in REPLACED))
    try:
        return Settings.model_validate(_expand(document.get("watcher") or {}, path, "watcher"))
    except ValidationError as error:
        raise SettingsError("; ".join(_fault(path, fault) for fault in error.errors())) from None


def find() -> Path | None:
    """Return the path of the settings file, or None if there is none.

    It is `[iam_watcher] settings_file`, which then must exist, else include/iam-watcher.yaml beside
    Airflow's plugins folder, which may be missing.
    """
    from airflow.configuration import conf

    if named := conf.get("iam_watcher", "settings_file", fallback=""):
        return Path(named).expanduser()
    default = Path(conf.get("core", "plugins_folder")).parent / "include" / "iam-watcher.yaml"
    return default if default.exists() else None


def __getattr__(name: str) -> Any:
    """Return a block of the settings in force: `settings.task`, `settings.clean`."""
    if name not in Settings.model_fields:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    path = find()
    return getattr(Settings() if path is None else load(path), name)


@functools.lru_cache(maxsize=8)
def _say_what_is_replaced(path: Path, keys: tuple[str, ...]) -> None:
    for key in keys:
        get_logger(__name__).info("%s: %r is not read; use %s", path, key, REPLACED[key])


def _expand(value: Any, path: Path, at: str) -> Any:
    """Put the environment's values in; one that is a whole number becomes one."""
    if isinstance(value, dict):
        return {key: _expand(item, path, f"{at}.{key}") for key, item in value.items()}
    if not isinstance(value, str) or not (match := re.fullmatch(r"\$\{(\w+)\}", value.strip())):
        return value
    name = match[1]
    if name not in os.environ:
        raise SettingsError(f"{path}: {at} is ${{{name}}}, but the environment has no {name}; set it")
    text = os.environ[name]
    return int(text) if re.fullmatch(r"-?\d{1,9}", text) else text


def _fault(path: Path, fault: Any) -> str:
    key = ".".join(("watcher", *(str(part) for part in fault["loc"])))
    if fault["type"] == "extra_forbidden":
        return f"{path}: unknown key {key!r}; expected one of {', '.join(_known_keys())}"
    value = repr(fault["input"])
    shown = f", got {value}" if _SAFE_TO_SHOW.fullmatch(str(fault["input"])) else ", got something else"
    expected = "a whole number of days from 0 (off) to 36500" if "days" in key else "a mapping"
    return f"{path}: {key}: expected {expected}{shown}"


def _known_keys() -> list[str]:
    blocks = Settings.model_fields.items()
    return [
        f"watcher.{block}.{key.replace('_', '-')}"
        for block, field in blocks
        for key in field.annotation.model_fields  # type: ignore[union-attr]
    ]
