#!/usr/bin/env bash
# Downloads servers for the tests, and installs nothing: the arguments choose from `mysql` (Debian unstable),
# `mariadb-11.8` (Debian 13) and `docker` (the engine of Debian 12, Compose of Debian 13). A server is unpacked into
# ${XDG_CACHE_HOME:-~/.cache}/iam-watcher/<server>, which all checkouts share; one that is there already
# is left alone. Its programs in bin/ and sbin/ run with the libraries of their own Debian.
set -euo pipefail

say() { printf '%s\n' "download_servers: $*" >&2; }
cache=${XDG_CACHE_HOME:-$HOME/.cache}/iam-watcher
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# Download the packages, and all that they depend on, from a suite of Debian, and unpack them.
unpack() { # folder suite package…
    local folder=$1 suite=$2 apt=$1/apt mirror
    shift 2
    # The machine's own mirror: it may be the only one that can be reached.
    mirror=$(grep -rhE '^(URIs:|deb )' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null |
        grep -oE 'https?://[^ ]+/debian/?( |$)' | head -n 1) || true
    mkdir -p "$apt/state/lists/partial" "$apt/archives/partial" "$apt/parts"
    # Of a machine without any package: apt then downloads every dependency, libc6 too.
    : >"$apt/state/status"
    cat >"$apt/apt.conf" <<CONF
Dir::Etc::SourceList "$apt/sources.list";
Dir::Etc::SourceParts "$apt/parts";
Dir::Etc::PreferencesParts "$apt/parts";
Dir::State "$apt/state";
Dir::State::status "$apt/state/status";
Dir::Cache "$apt";
Dir::Cache::archives "$apt/archives";
APT::Sandbox::User "";
APT::Install-Recommends "0";
Acquire::Languages "none";
Acquire::Retries "3";
Debug::NoLocking "1";
CONF
    echo "deb [signed-by=$keyring] ${mirror:-http://deb.debian.org/debian} $suite main" >"$apt/sources.list"
    APT_CONFIG=$apt/apt.conf apt-get -qq update
    APT_CONFIG=$apt/apt.conf apt-get -qq --yes --download-only install "$@"
    for package in "$apt"/archives/*.deb; do dpkg-deb --extract "$package" "$folder/root"; done
    rm -rf "$apt"
}

# Write a program that starts the unpacked one with the unpacked libraries.
wrap() { # folder program argument…
    local folder=$1 program=$2
    shift 2
    mkdir -p "$folder/$(dirname "$program")"
    {
        echo '#!/bin/sh'
        echo 'server=$(dirname "$(dirname "$(readlink -f "$0")")")'
        echo 'libraries=$(echo "$server"/root/usr/lib/*-linux-gnu*)'
        echo "exec \"\$libraries\"/ld-linux-*.so.* --library-path \"\$libraries\" \"\$server/root/usr/$program\" $* \"\$@\""
    } >"$folder/$program"
    chmod 755 "$folder/$program"
}

get_mysql() { # folder
    unpack "$1" sid mysql-server-core
    wrap "$1" sbin/mysqld --no-defaults '--basedir="$server/root/usr"' \
        '--lc-messages-dir="$server/root/usr/share/mysql"' '--plugin-dir="$server/root/usr/lib/mysql/plugin"'
}

get_mariadb() { # folder
    unpack "$1" trixie mariadb-server-core mariadb-client-core
    wrap "$1" sbin/mariadbd
    wrap "$1" bin/my_print_defaults
    wrap "$1" bin/resolveip
    ln -s ../root/usr/bin/mariadb-install-db "$1/bin/mariadb-install-db"
    ln -s root/usr/share "$1/share"
    ln -s root/usr/lib "$1/lib"
}

# Docker's programs start themselves and each other again, which `wrap` doesn't allow. So they use the machine's own
# libc, and only the other libraries are those of their Debian.
get_docker() { # folder
    local name folder=$1
    unpack "$folder" bookworm docker.io iproute2 mmdebstrap
    # A folder of its own: its libraries are those of another Debian.
    unpack "$folder/compose" trixie docker-compose
    mkdir -p "$folder/bin" "$folder/libraries"
    for name in "$folder"/root/{usr/,}lib/*-linux-gnu*/*.so.*; do
        case ${name##*/} in
        ld-linux* | lib[cm].so.* | lib{anl,dl,mvec,nsl,pthread,resolv,rt,thread_db,util}.so.* | libnss_*) ;;
        *) ln -sf "../${name#"$folder/"}" "$folder/libraries/" ;;
        esac
    done
    # Names that Debian makes when it installs a package.
    for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
        ln -s ../root/usr/sbin/xtables-nft-multi "$folder/bin/$name"
    done
}

download() { # server
    local code log=$cache/$1.log unfinished=$cache/$1.unfinished
    if [ -e "$cache/$1" ]; then return; fi
    say "downloading $1 into $cache; it is not installed"
    rm -rf "$unfinished"
    mkdir -p "$unfinished"
    # Not within an `if`, where `set -e` has no effect.
    set +e
    (
        set -e
        "get_${1%%-*}" "$unfinished"
    ) >"$log" 2>&1
    code=$?
    set -e
    if [ "$code" != 0 ]; then
        cat "$log" >&2
        say "$1 could not be downloaded (the reason is above). It needs a Debian mirror, apt-get and dpkg-deb."
        exit 1
    fi
    # As the last step: a folder of that name is complete.
    mv "$unfinished" "$cache/$1"
}

for server in "$@"; do
    case $server in
    mysql | mariadb-11.8 | docker) ;;
    *) say "there is no server $server; expected mysql, mariadb-11.8 or docker" && exit 1 ;;
    esac
done
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
for server in "$@"; do download "$server"; done
