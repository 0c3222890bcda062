"""HTTP requests to the URL of an Airflow connection. It can hold a secret: no log and no error shows it."""

from __future__ import annotations

import base64
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from iam_watcher.errors import NoticeError

if TYPE_CHECKING:
    from airflow.sdk import Connection

TIMEOUT = 4.0  # seconds: Airflow gives a task's callbacks 20 in all


def url_of(connection: Connection, watcher: str, *, append: bool = False) -> str:
    """Return the URL of a connection without its query, with the watcher's name in place of `{watcher}`.

    With `append`, the name follows the URL if it stands nowhere in it.

    The host can be a whole URL. In a connection that is written as a URI (`https://host/path`), the path
    follows the host. For the query see `query_of`.

    Raises:
        NoticeError: it is none of http or https.
    """
    host, schema = connection.host or "", connection.schema or ""
    if "://" in host:
        url = host
    else:
        is_protocol = schema in ("http", "https")
        protocol = schema if is_protocol else connection.conn_type
        port = f":{connection.port}" if connection.port else ""
        url = f"{protocol}://{host}{port}" + ("" if is_protocol or not schema else f"/{schema}")
    if not url.startswith(("http://", "https://")) or not host:
        raise NoticeError(
            f"the connection {connection.conn_id!r} has no URL of http or https. Give it one, such as "
            "https://host/path as its URI, or as its host"
        )
    url = url.partition("#")[0].partition("?")[0].rstrip("/")
    if append and "{watcher}" not in url:
        url += "/{watcher}"
    return url.replace("{watcher}", quote(watcher, safe=""))


def extras_of(connection: Connection) -> dict[str, str]:
    """Return name → value of the query: what the host has, if it is a whole URL, and the extras."""
    host = connection.host or ""
    own = parse_qsl(urlsplit(host).query, keep_blank_values=True) if "://" in host else []
    extras = {name: str(value) for name, value in connection.extra_dejson.items() if name != "__extra__"}
    return {**dict(own), **extras}


def query_of(connection: Connection, **more: str) -> str:
    """Return the query of a connection's URL, with `?` before it."""
    query = urlencode({**extras_of(connection), **more})
    return f"?{query}" if query else ""


def headers_of(connection: Connection) -> dict[str, str]:
    """Return the header of the connection's login and password, or of its password alone as a token."""
    if not connection.password:
        return {}
    if not connection.login:
        return {"Authorization": f"Bearer {connection.password}"}
    login = f"{connection.login}:{connection.password}".encode()
    return {"Authorization": f"Basic {base64.b64encode(login).decode('ascii')}"}


def post(url: str, body: bytes, headers: dict[str, str]) -> None:
    """Send a POST request.

    Raises:
        NoticeError: the answer is no success, or there is none. The message has no part of the URL.
    """
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")  # noqa: S310  http(s), by url_of
    try:
        with _opener().open(request, timeout=TIMEOUT):
            return
    except urllib.error.HTTPError as error:
        error.close()
        raise NoticeError(f"the answer was HTTP status {error.code}") from None
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise NoticeError(f"there was no answer: {type(reason).__name__}") from None


def _opener() -> Any:
    """Return what follows no redirection: a POST would become a GET, and a token would go elsewhere."""
    return urllib.request.build_opener(_NoRedirection)


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Refuse: the redirection becomes an error with its status."""
        return
