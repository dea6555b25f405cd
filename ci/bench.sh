#!/usr/bin/env bash
# Measures a part of StreamForge, over parts of its own on loopback, and prints a table.
#
#   ci/bench.sh queue-manager [--workflows N] [--running N] [--rate N] [--seconds N] [--backlog N] [--requests N] [--json]
#   ci/bench.sh writer [--partitions N,...] [--records N] [--rounds N] [--brokers N] [--baseline PROGRAM] [--latency MS] [--json]
#   ci/bench.sh writer --fetch-sizes [KIB,...] [...]
#   ci/bench.sh loader [--partitions N,...] [--records N] [--rounds N] [--brokers N] [--baseline PROGRAM] [--json]
#
# queue-manager: answers with so many ended workflows in the store (10000), events of so many running ones (50) at a rate
# (5000/s for 20 s) and as fast as they go (200000), and memory; on an Apache Kafka of its own. About two minutes, beside
# the build. Each figure stands beside the raw limit of the same run.
#
# writer: reads the candles (525600) that the real loader wrote over so many partitions (1, 3 and 8, one after the other),
# into a database that accepts and discards, or takes so many ms for a batch; beside a bare librdkafka consumer with default
# fetch sizes and one with ours. Rate, processor time and peak memory, medians of the rounds (3), and whether the targets
# are met. About six minutes. With --fetch-sizes it is the writer alone, with each of these sizes (16 to 4096 KiB).
# loader: publishes as many, from a simulated exchange; beside a bare producer of the same bytes. About eight minutes.
# --baseline names the worker's program of an earlier release (its own, or a streamforge), to be measured in the same run.
# --brokers starts so many brokers (1).
#
# Nothing else should run meanwhile. What was measured: docs/performance.md. Exit codes: 0 done, also where a target is not
# met, 1 failed, 2 wrong usage.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { echo "bench: $*; see ci/bench.sh --help" >&2; exit 2; }

case ${1:-} in
-h | --help) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
queue-manager)
    bench=manager subject=()
    numbers=(--workflows --running --rate --seconds --backlog --requests) lists=() files=()
    ;;
writer)
    bench=workers subject=(writer)
    numbers=(--records --rounds --brokers --latency) lists=(--partitions --fetch-sizes) files=(--baseline)
    ;;
loader)
    bench=workers subject=(loader)
    numbers=(--records --rounds --brokers) lists=(--partitions) files=(--baseline)
    ;;
"") usage "measure what? queue-manager, writer or loader" ;;
*) usage "there is no benchmark of '$1'" ;;
esac
shift
among() { # word words...
    local word=$1 one
    shift
    for one; do [ "$one" != "$word" ] || return 0; done
    return 1
}
options=()
brokers=1
while [ $# -gt 0 ]; do
    option=$1
    if among "$option" "${numbers[@]}"; then
        [[ ${2:-} =~ ^[1-9][0-9]{0,8}$ ]] || usage "$option takes a number"
        if [ "$option" = --brokers ]; then brokers=$2; else options+=("$option" "$2"); fi
        shift
    elif among "$option" "${lists[@]}"; then
        options+=("$option")
        if [[ ${2:-} =~ ^[1-9][0-9]{0,6}(,[1-9][0-9]{0,6})*$ ]]; then
            options+=("$2")
            shift
        elif [ "$option" != --fetch-sizes ]; then
            usage "$option takes numbers with commas between them"
        fi
    elif among "$option" "${files[@]}"; then
        [ -x "${2:-}" ] || usage "$option takes a program"
        options+=("$option" "$(realpath -- "$2")")
        shift
    else
        [ "$option" = --json ] || usage "no such option: $option"
        options+=("$option")
    fi
    shift
done

# Of the whole workspace, as everything is built: for one package alone cargo would build its dependencies again.
cargo bench --quiet --locked --workspace --bench "$bench" --no-run
kafka=$(mktemp -d)
trap 'ci/kafka.sh stop --dir "$kafka/broker"; rm -rf "$kafka"' EXIT
start=(start --dir "$kafka/broker" --while $$)
[ "$brokers" = 1 ] || start+=(--brokers "$brokers")
ci/kafka.sh "${start[@]}"
STREAMFORGE_KAFKA_DIR=$kafka/broker cargo bench --quiet --locked --workspace --bench "$bench" -- "${subject[@]}" "${options[@]}"
