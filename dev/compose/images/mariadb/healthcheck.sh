#!/bin/bash
# The two questions of the official image's script that the compose file asks.
set -euo pipefail
ask() { mariadb --protocol=tcp --host=127.0.0.1 --user=healthcheck --batch --skip-column-names "$@"; }

for question in "$@"; do
    case $question in
    --connect) ask --execute='SELECT 1' >/dev/null ;;
    --innodb_initialized)
        [ "$(ask --execute="SELECT COUNT(*) FROM information_schema.ENGINES WHERE engine = 'innodb' AND support IN ('YES', 'DEFAULT')")" = 1 ]
        ;;
    *)
        echo "healthcheck.sh: unknown question $question" >&2
        exit 1
        ;;
    esac
done
