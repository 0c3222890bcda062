#!/bin/bash
# The first start makes the database; meanwhile a server answers on its socket only, as with the official image.
set -euo pipefail
as() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }

chown -R postgres:postgres "$PGDATA"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    password=$(mktemp)
    printf '%s\n' "$POSTGRES_PASSWORD" >"$password"
    chown postgres "$password"
    as initdb --username="$POSTGRES_USER" --pwfile="$password" --auth-local=trust --auth-host=scram-sha-256 \
        --encoding=UTF8
    rm "$password"
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    as pg_ctl --wait --options="-c listen_addresses=''" start
    as createdb --username="$POSTGRES_USER" "$POSTGRES_DB"
    # Longer than the interval of a health check: a slow disk takes such a time.
    sleep 15
    as pg_ctl --wait --mode=fast stop
fi
exec setpriv --reuid=postgres --regid=postgres --init-groups "$@" -c listen_addresses='*'
