#!/bin/bash
# As the official image: the arguments are those of `airflow`, unless they begin with a shell or Python.
set -euo pipefail
case ${1-} in
airflow | bash | python) exec "$@" ;;
*) exec airflow "$@" ;;
esac
