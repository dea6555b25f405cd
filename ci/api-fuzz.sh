#!/usr/bin/env bash
# Asks a running queue-manager what its document allows, and what it does not, and checks every answer (schemathesis).
#
#   API_TOKEN=… ci/api-fuzz.sh SCHEMATHESIS URL [argument...]
#
# SCHEMATHESIS is its program, URL the root of the server, such as http://127.0.0.1:8080. API_TOKEN may do everything: the
# server has to ask for tokens, since it is checked that it does. Workflows are started, stopped and removed: not for a
# server that is used. More arguments go to `schemathesis run`.
set -euo pipefail
cd "$(dirname "$0")/.."

program=$1 url=${2%/}
shift 2
: "${API_TOKEN:?a token that may do everything}"
export API_TOKEN

exec "$program" --config-file ci/api-fuzz.toml run "$url/openapi.json" "$@"
