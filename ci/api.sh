#!/usr/bin/env bash
# Starts a dev stack and a queue-manager with tokens, and asks its API what its document allows, and what it does not.
#
#   ci/api.sh SCHEMATHESIS    the program, version as in ci/test.sh
#
# Takes the binaries of the last debug build of the workspace. Nothing stays behind. Exit codes: those of schemathesis, 1 if
# something did not start.
set -euo pipefail
cd "$(dirname "$0")/.."
program=$1
bin=$(realpath -m -- "${CARGO_TARGET_DIR:-target}")/debug
dir=$(mktemp -d)
pids=()

tidy() {
    trap - EXIT
    [ ${#pids[@]} -eq 0 ] || kill -TERM "${pids[@]}" 2>/dev/null || true
    wait || true
    rm -rf "$dir"
}
trap tidy EXIT

until_there() { # seconds command...
    local tenths=$(($1 * 10))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $((tenths -= 1)) -gt 0 ] || { tail -n 30 "$dir"/*.log >&2; return 1; }
        sleep 0.1
    done
}

(cd "$dir" && exec "$bin/streamforge" up --no-queue-manager) >/dev/null 2>"$dir/up.log" </dev/null &
pids+=($!)
until_there 30 test -s "$dir/streamforge.env"
token=$(openssl rand -hex 32)
printf 'ci full %s\n' "$(printf %s "$token" | sha256sum | cut -d' ' -f1)" >"$dir/tokens"
chmod 600 "$dir/tokens"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
(
    set -a
    # shellcheck disable=SC1091 # it is written by what was started above
    . "$dir/streamforge.env"
    exec env LAUNCHER=process JOBS_DIR="$dir/jobs" STOP_JOBS_AT_EXIT=true MAX_WORKFLOWS=2 \
        API_LISTEN="127.0.0.1:$port" API_TOKENS_FILE="$dir/tokens" "$bin/queue-manager"
) >/dev/null 2>"$dir/queue-manager.log" </dev/null &
pids=($! "${pids[@]}")
until_there 30 python3 -c "import urllib.request as r; r.urlopen('http://127.0.0.1:$port/health/ready')"
API_TOKEN=$token ci/api-fuzz.sh "$program" "http://127.0.0.1:$port"
