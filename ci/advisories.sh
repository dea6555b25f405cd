#!/usr/bin/env bash
# Checks Cargo.lock against RustSec's advisories: vulnerable, unsound, unmaintained and yanked crates.
#
#   ci/advisories.sh [--workspace DIR]
#
# Uses the live database where the network reaches it, else the snapshot that STREAMFORGE_ADVISORIES names (a git bundle with
# the branch `snap`), and prints how old it is. Needs cargo-deny and git. --workspace DIR checks the workspace in DIR instead
# of this one. Exit codes: 0 no finding, 1 findings, 2 wrong usage, 3 there is no database to check against.
set -euo pipefail
cd "$(dirname "$0")/.."

workspace=$PWD
case ${1:-} in
"") ;;
-h | --help) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
--workspace)
    workspace=$(realpath -- "${2:?--workspace takes a folder}") ;;
*) echo "advisories: no such option: $1; see ci/advisories.sh --help" >&2; exit 2 ;;
esac

databases=$(mktemp -d)
trap 'rm -rf "$databases"' EXIT
# What cargo-deny calls a clone of https://github.com/RustSec/advisory-db.
database=$databases/advisory-db-3157b0e258782691
sed "s|^\[advisories\]\$|&\ndb-path = \"$databases\"|" deny.toml >"$databases/deny.toml"
deny=(cargo deny --locked --log-level error --manifest-path "$workspace/Cargo.toml")

if timeout 60 "${deny[@]}" --config "$databases/deny.toml" fetch db >/dev/null 2>&1; then
    source="live"
elif [ -f "${STREAMFORGE_ADVISORIES:-/nonexistent}" ]; then
    rm -rf "$database"
    git clone --quiet --branch snap "$STREAMFORGE_ADVISORIES" "$database"
    source="snapshot"
else
    echo "advisories: the live database is out of reach and STREAMFORGE_ADVISORIES names no file" >&2
    exit 3
fi
newest=$(grep -rhoE '^date = "[0-9-]+"' "$database/crates" | sort | tail -n 1)
printf 'RustSec advisories, %s, newest of %s\n' "$source" "$(tr -dc '0-9-' <<<"$newest")"
# Offline, the database is not fetched again; the sources of all targets' crates have to be there.
cargo fetch --quiet --locked --manifest-path "$workspace/Cargo.toml"
"${deny[@]}" --offline --config "$databases/deny.toml" check advisories || exit 1
