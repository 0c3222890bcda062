"""Names for watchers, made of commands and of the names that jobs have elsewhere.

A name becomes a DAG id, which is in file names, URLs, metrics, notices and keys of Redis. So no option of a
command, and nothing behind one, becomes a part of a name: it can be a password. A password that is a
word without an option stays in the name: it looks like any other word.
"""

from __future__ import annotations

import itertools
import re

_LONGEST = 60
_HIDDEN = "\0"  # replaces the output of a command in a command: $(...)
_INNER = re.compile(r"\$\(\(?([^()]*)\)?\)|`([^`]*)`?")
_PIECE = re.compile(
    r"""(?P<space>[^\S\n]+)
    |(?P<comment>(?<![^\s;&|()])\#[^\n]*)
    |(?P<redirection>\d*(?:<<<|<<-?|>>|>\||[<>]&|[<>])|&>>?)
    |(?P<end>[;&|()\n]+)
    |(?P<single>'[^']*'?)
    |(?P<double>"(?:\\.|[^"\\])*"?)
    |(?P<escaped>\\.?)
    |(?P<plain>[^\s;&|()<>'"\\]+)""",
    re.VERBOSE | re.DOTALL,
)
_UNSAFE = re.compile(rf"[@=\s{_HIDDEN}]")
_ASSIGNMENT = re.compile(r"\w+=")
_KEYWORDS = frozenset(("{", "}", "!", "if", "then", "elif", "else", "fi", "while", "until", "do", "done"))
# A program that runs another one -> its short options with a value, and how many words follow its options.
_WRAPPERS = {
    "sudo": ("CDRTUghprtu", 0),
    "doas": ("Cu", 0),
    "nice": ("n", 0),
    "ionice": ("cn", 0),
    "env": ("Cu", 0),
    "exec": ("a", 0),
    "nohup": ("", 0),
    "setsid": ("", 0),
    "chronic": ("", 0),
    "time": ("fo", 0),
    "timeout": ("ks", 1),
    "flock": ("Ew", 1),
}
_LONG_WITH_VALUE = re.compile(
    r"--(user|group|adjustment|class|classdata|unset|chdir|signal|kill-after|timeout|wait)"
)
# Commands that do nothing by themselves, and those whose words are any texts.
_PREPARE = re.compile(
    r"cd|test|\[\[?|export|source|\.|umask|sleep|set|read|for|case|which|type|hash|echo|printf"
)
_ANY_TEXT = ("echo", "printf")
# Words after which a password can follow without an option.
_BEFORE_SECRET = ("auth", "login", "password", "passwd", "secret", "token")


def of_command(command: str) -> str:
    """Return a name for a shell command: its program, and its words before the first that can be a secret.

    The words end before an option, a URL, an assignment, and a word with an `@` or a space: an option can be
    a password, or the word after it. Folders, redirections and comments are left out.
    """
    found = [words for one in split(command)[0] if (words := program(one))]
    chosen = next((words for words in found if not _prepares(words)), found[0] if found else [])
    return of_text(" ".join(_safe(chosen)))


def of_text(text: str) -> str:
    """Return a text as a name: ASCII letters, digits and underscores."""
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:_LONGEST].strip("_")
    return name if name[:1].isalpha() else f"job_{name}".rstrip("_")


def unique(name: str, taken: set[str]) -> str:
    """Return the name, or with a number behind it where it is taken; it is taken then."""
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    taken.add(found)
    return found


def split(text: str) -> tuple[list[list[str]], list[str]]:
    """Return the commands of a shell text, and the texts of the commands inside `$(...)` and backticks.

    Returns:
        Each command as its words without quotes, redirections and comments; then the inner texts. A word
        with a NUL character has the output of a command in it.
    """
    inner: list[str] = []

    def hide(match: re.Match[str]) -> str:
        inner.append(match[1] or match[2] or "")
        return _HIDDEN

    count = 1
    while count:
        text, count = _INNER.subn(hide, text)
    text, _, rest = text.partition("$(")  # with brackets in it, or without an end
    commands: list[list[str]] = [[]]
    word: str | None = None
    is_file = False
    for match in [*_PIECE.finditer(text), None]:
        kind = match.lastgroup if match else "end"
        if match and kind in ("single", "double", "escaped", "plain"):
            word = (word or "") + _value(kind, match[0])
            continue
        if word is not None:
            if not is_file:
                commands[-1].append(word)
            word, is_file = None, False
        if kind == "redirection":
            is_file = True
        elif kind == "end":
            is_file = False
            commands.append([])
    return [words for words in commands if words], [one for one in (*inner, rest.replace("$(", "(")) if one]


def program(words: list[str]) -> list[str]:
    """Return the words of a command from its program on: without variables, sudo, nice and the like."""
    found: list[str] = []
    while True:
        words = list(itertools.dropwhile(lambda word: word in _KEYWORDS or _ASSIGNMENT.match(word), words))
        if not words or words[0].startswith("-"):
            return found
        found = words
        if _base(words[0]) not in _WRAPPERS:
            return found
        letters, operands = _WRAPPERS[_base(words[0])]
        words = words[_after_options(words, letters) + operands :]


def _after_options(words: list[str], letters: str) -> int:
    """Return the position of the first word after the options of a program; these letters take a value."""
    position = 1
    while position < len(words) and words[position].startswith("-"):
        word = words[position]
        if word == "--":
            return position + 1
        # The value is the next word if the letter is the last one.
        first = next((index for index, letter in enumerate(word) if letter in letters), None)
        has_value = _LONG_WITH_VALUE.fullmatch(word) or (not word.startswith("--") and first == len(word) - 1)
        position += 2 if has_value else 1
    return position


def _prepares(words: list[str]) -> bool:
    return bool(_PREPARE.fullmatch(_base(words[0]))) or (
        words[0] == "command" and words[1:2] in (["-v"], ["-V"])
    )


def _safe(words: list[str]) -> list[str]:
    """Return the parts of a name: the words before the first that can be a secret."""
    kept: list[str] = []
    for word in words:
        if word.startswith("-") or "://" in word or _UNSAFE.search(word if kept else _base(word)):
            break
        if kept and (word.lower() in _BEFORE_SECRET or _base(words[0]) in _ANY_TEXT):
            break
        kept.append(_base(word))
    return kept


def _base(word: str) -> str:
    return word.rstrip("/").rpartition("/")[2]


def _value(kind: str | None, text: str) -> str:
    """Return a part of a word without its quotes or its backslash."""
    if kind == "single":
        return text[1:].removesuffix("'")
    if kind == "double":
        return re.sub(r'\\(["\\$`])', r"\1", text[1:-1] if text.endswith('"') and len(text) > 1 else text[1:])
    if kind == "escaped":
        return text[1:].replace("\n", "")
    return text
