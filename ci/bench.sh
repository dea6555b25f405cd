#!/usr/bin/env bash
# Measures a part of StreamForge, over parts of its own on loopback, and prints a table.
#
#   ci/bench.sh queue-manager [--workflows N] [--running N] [--rate N] [--seconds N] [--backlog N] [--requests N] [--json]
#
# queue-manager: answers with so many ended workflows in the store (10000), events of so many running ones (50) at a rate
# (5000/s for 20 s) and as fast as they go (200000), and memory; on an Apache Kafka of its own. About two minutes, beside
# the build. Each figure stands beside the raw limit of the same run. Nothing else should run meanwhile.
# What was measured: docs/performance.md. Exit codes: 0 done, 1 failed, 2 wrong usage.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { echo "bench: $*; see ci/bench.sh --help" >&2; exit 2; }

case ${1:-} in
-h | --help) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
queue-manager) shift ;;
"") usage "measure what? queue-manager" ;;
*) usage "there is no benchmark of '$1'" ;;
esac
numbers=(--workflows --running --rate --seconds --backlog --requests)
options=("$@")
while [ $# -gt 0 ]; do
    case " ${numbers[*]} " in
    *" $1 "*)
        [[ ${2:-} =~ ^[1-9][0-9]{0,8}$ ]] || usage "$1 takes a number"
        shift
        ;;
    *) [ "$1" = --json ] || usage "no such option: $1" ;;
    esac
    shift
done

# Of the whole workspace, as everything is built: for one package alone cargo would build its dependencies again.
cargo bench --quiet --locked --workspace --bench manager --no-run
kafka=$(mktemp -d)
trap 'ci/kafka.sh stop --dir "$kafka/broker"; rm -rf "$kafka"' EXIT
ci/kafka.sh start --dir "$kafka/broker" --while $$
STREAMFORGE_KAFKA_DIR=$kafka/broker cargo bench --quiet --locked --workspace --bench manager -- "${options[@]}"
