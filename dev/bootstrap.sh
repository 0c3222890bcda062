#!/usr/bin/env bash
# Installs what this project needs and this machine lacks: Debian packages through apt, Python
# packages into .venv at the versions of constraints.txt. Running it again costs nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
say() { printf '%s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ]; }

command -v "$python" >/dev/null 2>&1 || { say "bootstrap: no $python here; install Python 3.11 or newer, or set PYTHON."; exit 1; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    say "bootstrap: $python is $("$python" --version 2>&1); this project needs Python 3.11 or newer. Set PYTHON to one."
    exit 1
}

# A stamp that names everything the installation depends on: unchanged means nothing to do.
stamp=.venv/.installed
wanted=$(cat constraints.txt pyproject.toml dev/bootstrap.sh | sha256sum; "$python" --version)

missing=()
have mariadbd && have mariadb-install-db || missing+=(mariadb-server-core)
have mariadb || missing+=(mariadb-client-core)
have redis-server || missing+=(redis-server)
if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
    # mysqlclient has no Linux wheel: it is compiled.
    have cc || missing+=(gcc libc6-dev)
    have pkg-config || missing+=(pkg-config)
    { have pkg-config && { pkg-config --exists mysqlclient || pkg-config --exists libmariadb; }; } || missing+=(default-libmysqlclient-dev)
    "$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    "$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || missing+=(python3-dev)
fi

if [ ${#missing[@]} -gt 0 ]; then
    root=()
    [ "$(id -u)" = 0 ] || root=(sudo)
    if ! have apt-get || { [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null && ! { [ -t 0 ] && have sudo; }; }; then
        say "bootstrap: these packages are missing, and there is no apt or no root here to install them:"
        say "    ${missing[*]}"
        say "Install them (on another system: its packages of the same content) and run this again. Nothing was changed."
        exit 1
    fi
    say "bootstrap: installing ${missing[*]}"
    # Debian starts and enables redis-server by itself. policy-rc.d is its documented way to say no
    # to the start; the unit is disabled right after. A policy that was here before stays as it is.
    policy=/usr/sbin/policy-rc.d
    if [[ " ${missing[*]} " == *" redis-server "* ]] && [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
        "${root[@]}" chmod 755 "$policy"
        trap '"${root[@]}" rm -f "$policy"' EXIT
    fi
    apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120)
    log=$(mktemp)
    if ! { "${apt[@]}" update && "${apt[@]}" install --yes --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        say "bootstrap: apt could not install: ${missing[*]}"
        exit 1
    fi
    rm -f "$log"
    if [[ " ${missing[*]} " == *" redis-server "* ]]; then
        "${root[@]}" update-rc.d redis-server disable >/dev/null 2>&1 || true
        if have deb-systemd-helper; then "${root[@]}" deb-systemd-helper disable redis-server.service >/dev/null 2>&1 || true; fi
        if [ -d /run/systemd/system ]; then "${root[@]}" systemctl disable --quiet redis-server.service || true; fi
    fi
fi

if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
    say "bootstrap: installing the Python packages of constraints.txt into .venv"
    # The stamp comes last: an interrupted installation is done again.
    rm -f "$stamp"
    "$python" -m venv .venv
    pip=(.venv/bin/python -m pip --disable-pip-version-check --quiet --no-input)
    "${pip[@]}" install --constraint constraints.txt --upgrade pip
    "${pip[@]}" install --constraint constraints.txt --only-deps .
    "${pip[@]}" install --constraint constraints.txt --group dev
    printf '%s\n' "$wanted" >"$stamp"
fi
