"""What a client and a server see of a connection that `make chaos` cuts."""

from __future__ import annotations

import socket
import socketserver
import threading
import time

import pytest

from dev.chaos.link import LATE, Link, State
from dev.sessions import wait_until


class _Echo(socketserver.StreamRequestHandler):
    def handle(self):
        self.server.opened.append(self.client_address)
        try:
            for line in self.rfile:
                self.wfile.write(line)
        except ConnectionError:
            pass
        self.server.ended.append(self.client_address)


@pytest.fixture
def echo():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Echo) as server:
        server.daemon_threads = True
        server.opened, server.ended = [], []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def link(echo):
    with Link(echo.server_address[1]) as link:
        yield link


@pytest.fixture
def client(link):
    with connect(link) as client:
        assert ask(client) == b"hello\n"
        yield client


def connect(link):
    return socket.create_connection(("127.0.0.1", link.port), timeout=5)


def ask(client):
    client.sendall(b"hello\n")
    return client.recv(100)


def test_it_passes_everything_on(link, client):
    text = b"x" * 1_000_000 + b"\n"
    threading.Thread(target=client.sendall, args=(text,)).start()
    answer = b""
    while not answer.endswith(b"\n"):
        answer += client.recv(100_000)
    assert answer == text


def test_refused(link, client, echo):
    link.set(State.REFUSED)
    with pytest.raises(ConnectionResetError):
        ask(client)
    with pytest.raises(ConnectionRefusedError):
        connect(link)
    assert wait_until(lambda: len(echo.ended) == 1, 5, 0.01)
    link.set(State.WHOLE)
    with connect(link) as another:
        assert ask(another) == b"hello\n"


def test_reset(link, client):
    link.set(State.RESET)
    with pytest.raises(ConnectionResetError):
        ask(client)
    with pytest.raises(ConnectionResetError), connect(link) as another:
        ask(another)


def test_silent(link, client):
    link.set(State.SILENT)
    client.settimeout(0.3)
    with pytest.raises(TimeoutError):
        ask(client)
    with connect(link) as another:
        another.settimeout(0.3)
        with pytest.raises(TimeoutError):
            ask(another)
    link.set(State.WHOLE)
    client.settimeout(5)
    assert client.recv(100) == b"hello\n"


def test_half_open(link, client, echo):
    link.set(State.HALF_OPEN)
    assert wait_until(lambda: len(echo.ended) == 1, 5, 0.01)
    client.settimeout(0.3)
    with pytest.raises(TimeoutError):
        ask(client)
    with connect(link) as another:
        assert ask(another) == b"hello\n"
    link.set(State.WHOLE)
    client.settimeout(5)
    assert client.recv(100) == b""


def test_slow(link, client):
    link.set(State.SLOW)
    began = time.monotonic()
    assert ask(client) == b"hello\n"
    assert time.monotonic() - began >= 2 * LATE


def test_its_end_ends_the_connections(echo):
    with Link(echo.server_address[1]) as link, connect(link) as client:
        assert ask(client) == b"hello\n"
        link.set(State.HALF_OPEN)
    assert wait_until(lambda: len(echo.ended) == 1, 5, 0.01)
