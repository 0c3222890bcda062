#!/usr/bin/env bash
# Installs what this project needs and this machine lacks: Debian packages through apt, Python
# packages into .venv at the versions of constraints.txt. Running it again costs nothing.
# PYTHON=<program> chooses another Python than python3 for .venv; the argument `bench` adds the peers of
# `make bench`, `browser` what the tests of the page need, and `cluster` what `make cluster` needs: PostgreSQL,
# and the packages of constraints-cluster.txt in .venv-cluster.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
say() { printf '%s\n' "bootstrap: $*" >&2; }
# Servers live in /usr/sbin, which a normal user's PATH lacks.
have() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ]; }

if ! command -v "$python" >/dev/null 2>&1; then
    say "there is no $python here. Install Python 3.11 or newer, or name one: PYTHON=/path/to/python make …"
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    say "$python is $("$python" --version 2>&1); Python 3.11 or newer is needed: PYTHON=/path/to/python make …"
    exit 1
fi

venv=.venv constraints=constraints.txt group=dev
if [ "${1:-}" = cluster ]; then venv=.venv-cluster constraints=constraints-cluster.txt group=cluster; fi

# A stamp that holds everything the installation depends on: unchanged means nothing to do.
stamp=$venv/.installed
wanted=$(
    "$python" --version
    {
        cat constraints.txt
        if [ "$constraints" != constraints.txt ]; then cat "$constraints"; fi
        sed -n '/^dependencies = \[/,/^\]/p; /^\[dependency-groups\]/,/^$/p' pyproject.toml
    } | sha256sum
)
installed() { [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; }

missing=()
have mariadbd && have mariadb-install-db || missing+=(mariadb-server-core)
have mariadb || missing+=(mariadb-client-core)
have redis-server || missing+=(redis-server)
if [ "${1:-}" = bench ]; then have pt-archiver || missing+=(percona-toolkit); fi
if [ "${1:-}" = browser ]; then have chromium || missing+=(chromium); fi
# Debian keeps the server's programs off every PATH.
if [ "${1:-}" = cluster ]; then compgen -G "/usr/lib/postgresql/*/bin/postgres" >/dev/null || missing+=(postgresql); fi
if ! installed; then
    # mysqlclient has no Linux wheel: it is compiled.
    have cc || missing+=(gcc libc6-dev)
    have pkg-config || missing+=(pkg-config)
    have pkg-config && { pkg-config --exists mysqlclient || pkg-config --exists libmariadb; } ||
        missing+=(default-libmysqlclient-dev)
    "$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    "$python" - <<'PY' || missing+=(python3-dev)
import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))
PY
fi

root=()
[ "$(id -u)" = 0 ] || root=(sudo)
policy=/usr/sbin/policy-rc.d made=()
# Debian makes a database of the whole machine at the installation of PostgreSQL, unless this file says no.
no_database=/etc/postgresql-common/createcluster.d/iam-watcher.conf
remove_policy() { "${root[@]}" rm -f "${made[@]}"; }

install_packages() {
    local log mark="# made by dev/bootstrap.sh"
    if ! have apt-get || { [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null && ! { [ -t 0 ] && have sudo; }; }; then
        say "these packages are missing, and there is no apt or no root here to install them:"
        say "    ${missing[*]}"
        say "Install them (elsewhere than on Debian: what they contain) and run this again. Nothing was changed."
        exit 1
    fi
    say "installing ${missing[*]}"
    if [[ " ${missing[*]} " == *" postgresql "* ]]; then
        made+=("$no_database")
        trap remove_policy EXIT
        "${root[@]}" mkdir -p "$(dirname "$no_database")"
        echo "create_main_cluster = false" | "${root[@]}" tee "$no_database" >/dev/null
    fi
    # Debian starts and enables redis-server by itself. policy-rc.d is its documented way to say no to
    # the start; the unit is disabled right after. Somebody else's policy stays as it is.
    if [[ " ${missing[*]} " == *" redis-server "* ]] && { [ ! -e "$policy" ] || grep -qx "$mark" "$policy"; }; then
        made+=("$policy")
        trap remove_policy EXIT
        printf '#!/bin/sh\n%s\nexit 101\n' "$mark" | "${root[@]}" tee "$policy" >/dev/null
        "${root[@]}" chmod 755 "$policy"
    fi
    local apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120)
    log=$(mktemp)
    # An update that fails may leave lists that still do. --no-remove: a MySQL server that is here
    # conflicts with MariaDB's packages, and must rather stop us than be removed.
    if ! { "${apt[@]}" update || true; "${apt[@]}" install --yes --no-install-recommends --no-remove "${missing[@]}"; } \
        >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        say "apt could not install: ${missing[*]} (its words are above). Nothing else was changed."
        exit 1
    fi
    rm -f "$log"
    if [[ " ${missing[*]} " == *" redis-server "* ]]; then
        # Each of these speaks to another init system; whichever is not here has nothing to disable.
        "${root[@]}" update-rc.d redis-server disable >/dev/null 2>&1 || true
        "${root[@]}" deb-systemd-helper disable redis-server.service >/dev/null 2>&1 || true
        if [ -d /run/systemd/system ]; then "${root[@]}" systemctl disable --quiet redis-server.service || true; fi
    fi
    if [ -n "$(trap -p EXIT)" ]; then
        remove_policy
        trap - EXIT
    fi
}

install_python_packages() {
    # Two at a time would break each other's .venv; the second one then finds it done.
    mkdir -p .run
    exec 9>.run/bootstrap.lock
    if have flock; then flock 9; fi
    if installed; then return; fi
    say "installing the Python packages of $constraints into $venv; this takes a minute or two"
    local clear=()
    if [ "$("$venv/bin/python" --version 2>/dev/null)" != "$("$python" --version)" ]; then clear=(--clear); fi
    # The stamp is written last: an installation that was broken off is taken up again.
    rm -f "$stamp"
    local pip=("$venv/bin/python" -m pip --disable-pip-version-check --quiet --no-input)
    if ! {
        "$python" -m venv "${clear[@]}" "$venv" &&
            "${pip[@]}" install --constraint constraints.txt --upgrade pip &&
            "${pip[@]}" install --constraint "$constraints" --only-deps . &&
            "${pip[@]}" install --constraint "$constraints" --group "$group"
    }; then
        say "the Python packages could not be installed (the reason is above); run this again to go on."
        exit 1
    fi
    printf '%s\n' "$wanted" >"$stamp"
}

if [ ${#missing[@]} -gt 0 ]; then install_packages; fi
if ! installed; then install_python_packages; fi
