"""Extras of a database connection that ask for TLS: a misspelt one must not mean "without TLS"."""

from __future__ import annotations

import json

import pytest

from iam_watcher.database.tls_extras import FILES, MODES, fault

CA = {"ca": "/path/ca.pem"}


@pytest.mark.parametrize(
    "extras",
    [
        {},
        {"charset": "utf8", "unix_socket": "/run/mysqld.sock", "local_infile": True, "iam": False},
        {"ssl_mode": "", "ssl": None},
        *({"ssl_mode": mode} for mode in MODES),
        {"ssl": dict.fromkeys(FILES, "/path")},
        {"ssl": json.dumps(CA), "ssl_mode": "VERIFY_IDENTITY"},
        *({"ssl": value} for value in (True, False, 1, 0, "true", "false")),
        {"ssl": False, "ssl_mode": "DISABLED"},
    ],
)
def test_what_the_client_library_understands(extras: dict[str, object]) -> None:
    assert fault(json.dumps(extras)) is None


def test_a_connection_without_extras() -> None:
    assert fault(None) is None
    assert fault("") is None


@pytest.mark.parametrize(
    ("name", "right"),
    [
        *(
            (name, "ssl_mode")
            for name in (
                "ssl_mod",
                "ssl-mode",
                "sslmode",
                "SSL_MODE",
                "Ssl_Mode",
                "ssl_mode ",
                "tls_mode",
                "ssl_verify_cert",
                "ssl_check_hostname",
                "requireSSL",
                "verifyServerCertificate",
                "extra__mysql__ssl_mode",
            )
        ),
        *(
            (name, 'ssl={"ca": …}')
            for name in ("ssl_ca", "ssl-ca", "SSLCA", "tls_ca", "ssl_ca_certs", "ca", "CA")
        ),
        *((f"ssl_{name}", f'ssl={{"{name}": …}}') for name in FILES),
        *((name, "ssl") for name in ("tls", "TLS", "SSL", "use_ssl", "useSSL", "use-tls")),
    ],
)
def test_an_extra_that_would_be_ignored(name: str, right: str) -> None:
    found = fault(json.dumps({name: "hunter22"}))
    assert found == f"has the extra {name!r}, which is not known; write {right} instead, or remove the extra"


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("ssl_mode", "write ssl_mode beside ssl, not in it,"),
        ("mode", "write ssl_mode beside ssl, not in it,"),
        ("verify_cert", "write ssl_mode beside ssl, not in it,"),
        ("check_hostname", "write ssl_mode beside ssl, not in it,"),
        ("CA", 'write ssl={"ca": …} instead,'),
        ("ssl_ca", 'write ssl={"ca": …} instead,'),
    ],
)
def test_a_key_of_ssl_that_would_be_ignored(name: str, advice: str) -> None:
    found = fault(json.dumps({"ssl": {**CA, name: "hunter22"}}))
    assert found == f"has the key {name!r} in the extra ssl; {advice} or remove the key"


@pytest.mark.parametrize(
    "mode", ["verify_identity", "REQUIRE", " REQUIRED", "true", True, False, 1, ["REQUIRED"]]
)
def test_a_mode_that_is_not_known(mode: object) -> None:
    assert fault(json.dumps({"ssl_mode": mode})) == (
        f"has the extra ssl_mode={mode!r}; expected one of DISABLED, PREFERRED, REQUIRED, VERIFY_CA, "
        "VERIFY_IDENTITY"
    )


@pytest.mark.parametrize(
    "value", ["/hunter22.pem", "yes", "[]", [], {}, "{}", {"ca": None}, {"ca": ""}, {"ca": True}, 2, ["ca"]]
)
def test_a_value_of_ssl_that_asks_for_nothing(value: object) -> None:
    found = fault(json.dumps({"ssl": value}))
    assert found is not None
    assert found.startswith(
        "has the extra ssl with a value that is not valid; expected true, or a JSON object"
    )
    assert "hunter22" not in found


def test_ssl_and_a_mode_without_tls() -> None:
    assert "remove one of them" in (fault(json.dumps({"ssl": CA, "ssl_mode": "DISABLED"})) or "")


@pytest.mark.parametrize("extra", ["ssl_mode=REQUIRED", "[1]", '"REQUIRED"', "null", "{"])
def test_extras_that_are_no_json_object(extra: str) -> None:
    """Airflow's own reading gives {} for some of them, so a job would connect without TLS."""
    assert "not a JSON object" in (fault(extra) or "")
