#!/usr/bin/env bash
# Kills, freezes and cuts off the parts of a workflow at random while it runs, and checks that nothing was lost.
#
#   ci/chaos.sh [--seed N]... [--records M] [--steps S] [--writers W] [--brokers B]
#
# --brokers 3 runs it on three brokers with replication 3, which are killed, frozen for up to 25 s and restarted one by one.
# --seed may be given several times, also as a range such as 1-20; default 1. The same seed does the same things. What they
# are, what comes of them, and what is promised: docs/reliability.md. Exit codes: 0 nothing was lost, 1 something was or a
# seed could not be run, 2 wrong usage.
set -euo pipefail
cd "$(dirname "$0")/.."

seeds=()
rest=()
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    --seed | --records | --steps | --writers | --brokers)
        [ $# -ge 2 ] || { echo "chaos: $1 takes a value" >&2; exit 2; }
        if [ "$1" != --seed ]; then
            rest+=("$1" "$2")
        elif [[ $2 =~ ^([0-9]+)-([0-9]+)$ ]]; then
            mapfile -t range < <(seq "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}")
            seeds+=("${range[@]}")
        elif [[ $2 =~ ^[0-9]+$ ]]; then
            seeds+=("$2")
        else
            echo "chaos: --seed takes a number or a range such as 1-20, not '$2'" >&2
            exit 2
        fi
        shift ;;
    *) echo "chaos: no such option: $1" >&2; exit 2 ;;
    esac
    shift
done
[ ${#seeds[@]} -gt 0 ] || seeds=(1)

# Of the whole workspace, as all tests are built: for one package alone cargo would build its dependencies again.
target=${CARGO_TARGET_DIR:-$PWD/target}
cargo build --quiet --locked --workspace --example arango
cargo test --quiet --locked --workspace --test chaos --no-run
for seed in "${seeds[@]}"; do
    cargo test --quiet --locked --workspace --test chaos -- --seed "$seed" "${rest[@]}" \
        --arango "$target/debug/examples/arango" --kafka "$PWD/ci/kafka.sh" || exit 1
done
