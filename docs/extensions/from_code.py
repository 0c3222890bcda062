"""Directives of Sphinx that write parts of the reference from the code: the two can't differ.

`settings-file` has a row for each key of the settings models, `airflow-options` one for each option in
provider_info.py. `commands` has the help of each command.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import annotated_types
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from iam_watcher import settings
from iam_watcher.command_line import COMMANDS
from iam_watcher.provider_info import get_provider_info

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo
    from sphinx.application import Sphinx


class _Table(SphinxDirective):
    """A table whose cells are Markdown."""

    heading: ClassVar[tuple[str, ...]]

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Yield the cells of each row."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        lines = [self.heading, tuple("---" for _ in self.heading), *self.rows()]
        text = StringList([f"| {' | '.join(cells)} |" for cells in lines], source=type(self).__name__)
        box = nodes.container()
        self.state.nested_parse(text, self.content_offset, box)
        return box.children


class SettingsFile(_Table):
    """The keys of include/iam-watcher.yaml."""

    heading = ("key", "value", "default", "what it does")

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Yield a row for each key of each block."""
        for block, block_field in settings.Settings.model_fields.items():
            model: Any = block_field.annotation
            for name, field in model.model_fields.items():
                key = f"watcher.{block}.{name.replace('_', '-')}"
                yield f"`{key}`", _values(field), f"`{str(field.default).lower()}`", field.description or ""


class AirflowOptions(_Table):
    """The options of the section `[iam_watcher]`."""

    heading = ("option", "example", "what it does")

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Yield a row for each option."""
        for name, option in get_provider_info()["config"]["iam_watcher"]["options"].items():
            yield f"`{name}`", f"`{option['example']}`", option["description"].strip()


class Commands(SphinxDirective):
    """The help of each command `airflow iam-watcher …`, and of its own commands."""

    def run(self) -> list[nodes.Node]:
        """Return a section for each command."""
        return [self._section(*command) for command in COMMANDS]

    def _section(self, name: str, module: str, text: str) -> nodes.Node:
        parser = argparse.ArgumentParser(prog=f"airflow iam-watcher {name}")
        import_module(module).add_arguments(parser)
        program = f"python -m {module.removesuffix('.__main__')}"
        section = nodes.section(ids=[f"command-{name}"])
        section += nodes.title(text=f"airflow iam-watcher {name}")
        section += nodes.paragraph(
            "", "", nodes.Text(f"{text}. The same program: "), nodes.literal(text=program)
        )
        # argparse has no public way to the commands of a command.
        inner = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]  # noqa: SLF001
        for one in (parser, *(sub for action in inner for sub in action.choices.values())):
            section += nodes.literal_block(text=one.format_help(), language="text")
        return section


def _values(field: FieldInfo) -> str:
    """Return which values a key takes."""
    if field.annotation is bool:
        return "`true` or `false`"
    bounds = {type(rule): rule for rule in field.metadata}
    low, high = bounds[annotated_types.Ge].ge, bounds[annotated_types.Le].le
    return f"a whole number from {low} to {high}"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("settings-file", SettingsFile)
    app.add_directive("airflow-options", AirflowOptions)
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True}
