#!/bin/bash
# As the official image: the server belongs to the user redis, and answers other containers.
set -euo pipefail
chown -R redis:redis /data
exec setpriv --reuid=redis --regid=redis --init-groups "$@" --protected-mode no
