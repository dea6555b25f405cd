#!/usr/bin/env bash
# Checks the dev stack's servers with clients that others wrote: runs each `ci/<server>-clients.py URL` against
# `libs/streamforge-devstack/examples/<server>.rs`, whose first line on stdout is the URL.
# $1: a python that has the clients.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1
server=""
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true' EXIT

features=()
[ "${VENDORED_OPENSSL:-}" = 1 ] && features=(--features streamforge/vendored-openssl)
cargo build --quiet --locked --workspace --examples "${features[@]}"
for script in ci/*-clients.py; do
    name=$(basename "$script" -clients.py)
    echo "-- $script"
    exec 3< <(exec "${CARGO_TARGET_DIR:-target}/debug/examples/$name")
    server=$!
    read -r -t 20 url <&3 || { echo "the example $name did not say its URL within 20 s" >&2; exit 1; }
    timeout 120 "$python" "$script" "$url"
    kill "$server" && server=""
    exec 3<&-
done
