#!/usr/bin/env bash
# Runs a Docker engine as the first process of namespaces of its own (dev/compose/engine.py makes them), so that all
# it starts ends with it, and what it writes outside of its folder goes too: mounts, /etc/docker, /run, /opt.
# Arguments: the engine's folder, then the options of dockerd.
set -euo pipefail
folder=$1
shift

# Without this, mount makes the machine's /run/mount if it is not there.
mount() { command mount --no-mtab "$@"; }
# Where it may be a link to a file in /run.
cp /etc/resolv.conf "$folder/resolv.conf"
for name in etc opt; do
    mkdir -p "$folder/over/$name" "$folder/work/$name"
    mount -t overlay overlay -o "lowerdir=/$name,upperdir=$folder/over/$name,workdir=$folder/work/$name" "/$name"
done
rm -f /etc/resolv.conf
cp "$folder/resolv.conf" /etc/resolv.conf
mount -t tmpfs tmpfs /run
# It is up already in the machine's own network.
ip link set lo up

dockerd "$@" &
engine=$!
trap 'kill -TERM "$engine"' TERM
# A signal ends the first wait early.
wait "$engine" || wait "$engine"
