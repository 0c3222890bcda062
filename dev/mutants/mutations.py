"""Small changes to a Python file, one at a time, each of which a test should notice."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A comparison becomes its neighbour: a wrong limit is the usual fault.
COMPARISONS = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
    ast.Is: "is not", ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
}  # fmt: skip
ARITHMETIC = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "/", ast.Mod: "*"}

# SQL and Lua are in texts: a condition goes, a lock goes, a comparison becomes its neighbour.
IN_SQL = (
    (re.compile(r" FOR UPDATE"), ""),
    (re.compile(r" AND (?!%|\{)[^()%]*?(?= AND | OR | FOR |\"|$)"), ""),
    (re.compile(r"(?<=\s)<(?=\s)"), "<="),
    (re.compile(r"(?<=\s)>(?=\s)"), ">="),
    (re.compile(r"(?<=\s)<=(?=\s)"), "<"),
    (re.compile(r"(?<=\s)>=(?=\s)"), ">"),
    (re.compile(r" (ASC|DESC)\b"), ""),
)
SQL = re.compile(r"\b(SELECT|UPDATE|DELETE|INSERT|WHERE|FOR UPDATE|redis\.call)\b|^ ")
LUA_CALL = re.compile(r"^\s*redis\.call\(.*\)$", re.MULTILINE)

# No test can tell a moment from the next, so a comparison with a clock becomes its opposite.
CLOCK = re.compile(r"\btime\.(monotonic|time)\(\)|\bnow\b|\bdeadline\b")
OPPOSITES = {"<": ">=", ">": "<=", "<=": ">", ">=": "<"}

# What people read is not what the program does.
TALK = frozenset({"debug", "info", "warning", "error", "exception", "print"})


@dataclass(frozen=True)
class Mutation:
    """One change.

    Attributes:
        path: of the file, relative to the project.
        line: where it begins, from 1.
        scope: the class and function, or the constant, that it is in.
        start: offset in the file's text.
        end: offset behind the text that goes.
        text: that comes in its place.
        was: the text that goes.
    """

    path: str
    line: int
    scope: str
    start: int
    end: int
    text: str
    was: str

    @property
    def name(self) -> str:
        """The change without its line number, which moves when the file grows."""
        was, text = (re.sub(r"\s+", " ", part).strip() for part in (self.was, self.text))
        return f"{self.path}::{self.scope}: {was} -> {text or 'nothing'}"

    def applied(self, source: str) -> str:
        """Return the file's text with the change."""
        return source[: self.start] + self.text + source[self.end :]


def mutations(root: Path, path: str) -> list[Mutation]:
    """Return all changes to a file that leave it a valid program."""
    source = (root / path).read_text(encoding="utf-8")
    found = {(m.start, m.end, m.text): m for m in _Finder(path, source).all()}
    return [mutation for mutation in found.values() if _compiles(mutation.applied(source))]


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True


class _Finder:
    def __init__(self, path: str, source: str) -> None:
        self._path = path
        self._source = source
        self._tree = ast.parse(source)
        self._line_starts = [0]
        for line in source.splitlines(keepends=True):
            self._line_starts.append(self._line_starts[-1] + len(line))

    def all(self) -> Iterator[Mutation]:
        for statement in self._tree.body:
            yield from self._within(statement, "")

    def _within(self, node: ast.AST, scope: str) -> Iterator[Mutation]:
        if _is_left_alone(node, scope):
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            scope = f"{scope}.{node.name}" if scope else node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign) and not scope:
            scope = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
        for change in (self._of_condition, self._of_value, self._of_statement):
            yield from change(node, scope)
        for child in _children(node):
            yield from self._within(child, scope)

    def _of_condition(self, node: ast.AST, scope: str) -> Iterator[Mutation]:
        match node:
            case ast.Compare() if CLOCK.search(self._text(node)):
                yield self._mutation(node, scope, f"(not ({self._text(node)}))")
            case ast.Compare(left, [operator], [right]) if type(operator) in COMPARISONS:
                text = f"{self._operand(left)} {COMPARISONS[type(operator)]} {self._operand(right)}"
                yield self._mutation(node, scope, text)
            case ast.BoolOp(operator, values):
                word = " or " if isinstance(operator, ast.And) else " and "
                yield self._mutation(node, scope, f"({word.join(f'({self._text(v)})' for v in values)})")
            case ast.UnaryOp(ast.Not(), operand):
                yield self._mutation(node, scope, f"bool({self._text(operand)})")
            case ast.If(test) | ast.While(test) | ast.IfExp(test):
                # One of these is changed as what it is.
                if not isinstance(test, ast.UnaryOp | ast.Compare | ast.BoolOp | ast.Constant):
                    yield self._mutation(test, scope, f"(not ({self._text(test)}))")

    def _of_value(self, node: ast.AST, scope: str) -> Iterator[Mutation]:
        match node:
            case ast.BinOp(left, operator, right) if type(operator) in ARITHMETIC:
                if not any(isinstance(s, ast.JoinedStr) or _is_text(s) for s in (left, right)):
                    text = f"({self._operand(left)} {ARITHMETIC[type(operator)]} {self._operand(right)})"
                    yield self._mutation(node, scope, text)
            case ast.Constant(bool(value)):
                yield self._mutation(node, scope, str(not value))
            case ast.Constant(int(value)):
                yield self._mutation(node, scope, str(value + 1))
            case ast.Constant(float(value)):
                yield self._mutation(node, scope, str(value * 2 or 1.0))
            case ast.Constant(str(value)):
                if SQL.search(value):
                    yield from self._in_text(node, scope)

    def _of_statement(self, node: ast.AST, scope: str) -> Iterator[Mutation]:
        match node:
            case ast.Expr() | ast.AugAssign():
                yield self._mutation(node, scope, "pass")
            # For its caller, None is as good as False.
            case ast.Return(value) if value is not None and self._text(value) not in ("None", "False"):
                yield self._mutation(node, scope, "return None")

    def _in_text(self, node: ast.AST, scope: str) -> Iterator[Mutation]:
        text = self._text(node)
        start, _ = self._span(node)
        for pattern, replacement in (*IN_SQL, (LUA_CALL, "")):
            for match in pattern.finditer(text):
                line = text[text.rfind("\n", 0, match.start()) + 1 :].partition("\n")[0]
                becomes = OPPOSITES.get(match[0], replacement) if CLOCK.search(line) else replacement
                yield self._cut(start + match.start(), start + match.end(), becomes, scope)

    def _text(self, node: ast.AST) -> str:
        start, end = self._span(node)
        return self._source[start:end]

    def _operand(self, node: ast.AST) -> str:
        # Parentheses around an operand are none of the node's text.
        text = self._text(node)
        compound = ast.BinOp | ast.BoolOp | ast.Compare | ast.IfExp | ast.Lambda | ast.NamedExpr
        return f"({text})" if isinstance(node, compound) else text

    def _span(self, node: ast.AST) -> tuple[int, int]:
        return self._offset(node.lineno, node.col_offset), self._offset(  # type: ignore[attr-defined]
            node.end_lineno,  # type: ignore[attr-defined]
            node.end_col_offset,  # type: ignore[attr-defined]
        )

    def _offset(self, line: int, column: int) -> int:
        # Columns count the bytes of UTF-8.
        start = self._line_starts[line - 1]
        text = self._source[start : self._line_starts[line]]
        return start + len(text.encode()[:column].decode())

    def _mutation(self, node: ast.AST, scope: str, text: str) -> Mutation:
        return self._cut(*self._span(node), text, scope)

    def _cut(self, start: int, end: int, text: str, scope: str) -> Mutation:
        line = self._source.count("\n", 0, start) + 1
        return Mutation(self._path, line, scope, start, end, text, self._source[start:end])


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Return the parts of a node, without annotations, decorators, and the `strict` of a `zip`."""
    match node:
        case ast.Call(ast.Name("zip"), args, keywords):
            # It is True where both parts have the same length by construction.
            yield from (*args, *(keyword for keyword in keywords if keyword.arg != "strict"))
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            yield from (*node.args.defaults, *filter(None, node.args.kw_defaults), *node.body)
        case ast.ClassDef(body=body):
            yield from body
        case ast.AnnAssign(value=value):
            yield from filter(None, [value])
        case _:
            yield from ast.iter_child_nodes(node)


def _is_left_alone(node: ast.AST, scope: str) -> bool:
    """Say whether a change of this node is none that a test should notice."""
    match node:
        case ast.Import() | ast.ImportFrom() | ast.Raise() | ast.Expr(ast.Constant()):
            return True
        case ast.FunctionDef(decorator_list=decorators) | ast.AsyncFunctionDef(decorator_list=decorators):
            # Nothing runs it: each subclass has its own.
            return "abstractmethod" in map(ast.unparse, decorators)
        case ast.If(test):
            return "TYPE_CHECKING" in ast.unparse(test) or "__name__" in ast.unparse(test)
        case ast.Assign(value=value) if not scope:
            # How long and how many: tests measure no time, bench/ does.
            return all(_is_number(part) for part in (value.elts if isinstance(value, ast.Tuple) else [value]))
        case ast.Expr(ast.Call(func=ast.Attribute(attr=name))):
            return name in TALK
    return False


def _is_number(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Name("timedelta"), args=args, keywords=keywords):
            return all(map(_is_number, (*args, *(keyword.value for keyword in keywords))))
        case ast.BinOp(left, _, right):
            return _is_number(left) and _is_number(right)
        case ast.Constant(int() | float()):
            return True
        case ast.Name(name):
            return name.isupper()
    return False


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
