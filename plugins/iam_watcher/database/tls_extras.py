"""Checks the extras of an Airflow connection that ask for TLS.

The provider's hook reads two extras, and ignores every other one: a misspelt name would mean a connection
without TLS. So an extra that looks like TLS, and is none of the two, is an error.
"""

from __future__ import annotations

import difflib
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

MODES = ("DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
"""The values of ssl_mode that the client library knows, in these letters only."""
FILES = ("ca", "capath", "cert", "key", "cipher")
"""The keys of ssl that the client library reads. It ignores every other key."""

_LOOKS_LIKE_TLS = re.compile(rf".*(ssl|tls|verify).*|{'|'.join(FILES)}", re.IGNORECASE | re.DOTALL)
_IS_ABOUT_THE_MODE = re.compile("mode|verif|check|req|host|ident")
_RIGHT_NAMES = {"sslmode": "ssl_mode", "ssl": "ssl"} | {
    f"ssl{name}": f'ssl={{"{name}": …}}' for name in FILES
}


def fault(extra: str | None) -> str | None:
    """Return what is wrong with the extras of a connection, as Airflow stores them, and what to do.

    The text follows the name of the connection. No value is shown, except of ssl_mode.
    """
    return next(_faults(_read(extra) if extra else {}), None)


def _faults(extras: Any) -> Iterator[str]:
    if not isinstance(extras, dict):
        yield 'has extras that are not a JSON object; write them as in {"ssl_mode": "REQUIRED"}'
        return
    for name in extras:
        if name not in ("ssl", "ssl_mode") and _LOOKS_LIKE_TLS.fullmatch(name):
            yield (
                f"has the extra {name!r}, which is not known; write {_right_name(name)} instead, "
                "or remove the extra"
            )
    mode, ssl = extras.get("ssl_mode"), extras.get("ssl")
    if mode not in (None, "", *MODES):
        yield f"has the extra ssl_mode={mode!r}; expected one of {', '.join(MODES)}"
    if ssl in (None, ""):
        return
    ssl = _read(ssl) if isinstance(ssl, str) else ssl
    yield from _faults_of_ssl(ssl)
    if ssl and mode == "DISABLED":
        yield "has the extra ssl, which asks for TLS, and ssl_mode='DISABLED'; remove one of them"


def _faults_of_ssl(ssl: Any) -> Iterator[str]:
    if ssl in (0, 1):  # False and True, too
        return
    keys = ssl if isinstance(ssl, dict) else {}
    for name in keys:
        if name not in FILES:
            right = _right_name(name)
            beside = " beside ssl, not in it," if right == "ssl_mode" else " instead,"
            yield f"has the key {name!r} in the extra ssl; write {right}{beside} or remove the key"
    if not keys or not all(isinstance(value, str) and value for value in keys.values()):
        yield (
            "has the extra ssl with a value that is not valid; expected true, or a JSON object with one or "
            f'more of {", ".join(FILES)} as texts, such as {{"ca": "/path/ca.pem"}}'
        )


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _right_name(name: str) -> str:
    """Return what is most probably meant by an extra, or by a key of ssl."""
    plain = re.sub("[^a-z]", "", name.lower()).replace("tls", "ssl")
    if _IS_ABOUT_THE_MODE.search(plain):
        return "ssl_mode"
    plain = plain if "ssl" in plain else f"ssl{plain}"
    inside = [known for known in _RIGHT_NAMES if known != "ssl" and known in plain]
    near = difflib.get_close_matches(plain, _RIGHT_NAMES, n=1)
    return _RIGHT_NAMES[max(inside, key=len) if inside else next(iter(near), "sslmode")]
