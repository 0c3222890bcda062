#!/bin/bash
# The first start makes the accounts and runs the files of /docker-entrypoint-initdb.d in the order of their names, on a
# server that answers on its socket only, as with the official image.
set -euo pipefail
as() { setpriv --reuid=mysql --regid=mysql --init-groups "$@"; }
options=(--datadir=/var/lib/mysql --bind-address=0.0.0.0 --skip-name-resolve)

chown -R mysql:mysql /var/lib/mysql /run/mysqld
if [ ! -d /var/lib/mysql/mysql ]; then
    as mariadb-install-db --datadir=/var/lib/mysql --auth-root-authentication-method=normal --skip-test-db >/dev/null
    as mariadbd "${options[@]}" --skip-networking &
    server=$!
    until mariadb-admin --silent ping >/dev/null 2>&1; do
        kill -0 "$server"
        sleep 0.3
    done
    if [ -n "${MARIADB_RANDOM_ROOT_PASSWORD-}" ]; then
        MARIADB_ROOT_PASSWORD=$(od --address-radix=n --read-bytes=16 --format=x8 /dev/urandom | tr --delete ' ')
    fi
    account=${MARIADB_USER:+"CREATE USER $MARIADB_USER@'%' IDENTIFIED BY '$MARIADB_PASSWORD';"}
    mariadb <<SQL
ALTER USER root@localhost IDENTIFIED BY '$MARIADB_ROOT_PASSWORD';
CREATE USER root@'%' IDENTIFIED BY '$MARIADB_ROOT_PASSWORD';
GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;
CREATE USER healthcheck@127.0.0.1;
$account
SQL
    export MYSQL_PWD=$MARIADB_ROOT_PASSWORD
    # Opened by the server's user, as with the official image.
    for file in /docker-entrypoint-initdb.d/*.sql; do as cat "$file" | mariadb; done
    mariadb-admin shutdown
    unset MYSQL_PWD
    wait "$server"
fi
exec setpriv --reuid=mysql --regid=mysql --init-groups "$@" "${options[@]}"
