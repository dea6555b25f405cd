#!/usr/bin/env bash
# A real Apache Kafka on loopback: one node, KRaft, TLS, SCRAM users, and the rights and topics of k8s/kafka.
#
#   ci/kafka.sh start     starts it, or goes on with what `stop --keep`, a crash or a kill left
#   ci/kafka.sh status    says whether it runs: exit code 0 if so, 1 if only its folder is there, 3 if nothing is
#   ci/kafka.sh restart   stops it in order and starts it again; data, ports and passwords stay
#   ci/kafka.sh stop      kills it and removes its folder; nothing is left, also after a crash
#   ci/kafka.sh fetch     only makes sure of tools and jars; `start` does so too
#
#   --dir DIR             its folder, one for each broker (default target/kafka)
#   --keep                with `stop`: stops it in order and keeps the folder, for `start`
#   --while PID           with `start` or `restart`: when the process PID has ended, the broker is stopped as by `stop`
#   --plaintext-port N, --sasl-port N    with a first `start`: default free ones, as all other ports
#   --timeout SECONDS     how long it may take until it answers (default 60)
#
# DIR/env then says all that a test has to know, as KEY=value lines that a shell can source; DIR/pid is the process,
# DIR/log its log. Needs Java 17 and openssl, and the first time Maven: what is missing is installed with apt where that
# is allowed. The jars, pinned in ci/kafka/pom.xml, are kept in ${XDG_CACHE_HOME:-~/.cache}/streamforge; once there, no
# network is needed. Exit codes: 0 done, 1 failed, 2 wrong usage.
set -euo pipefail
home=$(cd "$(dirname "$0")" && pwd)
umask 077

say() { printf 'kafka: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }
usage() { say "$@"; say "see ci/kafka.sh --help"; exit 2; }

number() { # option value
    [[ $2 =~ ^[0-9]{1,7}$ ]] || usage "$1 takes a number, not '$2'"
    printf '%d' "$((10#$2))"
}

verb=""
dir="${CARGO_TARGET_DIR:-$(dirname "$home")/target}/kafka"
keep="" watched="" plaintext_port="" sasl_port="" archive_to="" timeout=60
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    --keep) keep=1 ;;
    --dir | --while | --plaintext-port | --sasl-port | --timeout | --archive)
        [ $# -ge 2 ] || usage "$1 takes a value"
        case $1 in
        --dir) dir=$2 ;;
        --while) watched=$(number "$1" "$2") ;;
        --plaintext-port) plaintext_port=$(number "$1" "$2") ;;
        --sasl-port) sasl_port=$(number "$1" "$2") ;;
        --timeout) timeout=$(number "$1" "$2") ;;
        --archive) archive_to=$2 ;; # for ci/kafka/fetch.sh only
        esac
        shift ;;
    -*) usage "no such option: $1" ;;
    start | stop | status | restart | fetch) [ -z "$verb" ] || usage "one verb only"; verb=$1 ;;
    *) usage "no such verb: $1" ;;
    esac
    shift
done
[ -n "$verb" ] || usage "start, stop, status, restart or fetch?"
[ -n "$dir" ] || usage "--dir takes a folder"
# One spelling, since the process is known by it; and such that Kafka and a shell can read it from files.
dir=$(realpath -m -- "$dir")
[[ $dir =~ ^[A-Za-z0-9_./@+-]+$ ]] || usage "--dir takes letters, digits and _./@+- only: '$dir'"

# --- The process

# The broker of this folder, if it runs. A pid that another process has by now, or a zombie, is none.
running() {
    local pid
    pid=$(cat "$dir/pid" 2>/dev/null) && [ -n "$pid" ] || return 1
    { tr '\0' ' ' <"/proc/$pid/cmdline"; } 2>/dev/null | grep -qF " kafka.Kafka $dir/server.properties" || return 1
    printf '%s' "$pid"
}

already_runs() {
    local pid
    pid=$(running) || return 1
    say "it already runs, pid $pid"
}

gone() { # seconds: waits until it has ended
    local tenths=$(($1 * 10))
    while running >/dev/null; do
        [ $((tenths -= 1)) -ge 0 ] || return 1
        sleep 0.1
    done
}

kill_broker() {
    local pid
    pid=$(running) || return 0
    kill -KILL "$pid" 2>/dev/null || true
    gone 10 || fail "process $pid does not end"
}

stop_in_order() {
    local pid
    pid=$(running) || { say "it does not run"; return 0; }
    kill -TERM "$pid" 2>/dev/null || true
    kill -CONT "$pid" 2>/dev/null || true
    gone 30 && return 0
    say "it did not stop within 30 s and is killed"
    kill_broker
}

remove() {
    [ -e "$dir" ] || return 0
    # The folder is ours only if we made it.
    [ -e "$dir/server.properties" ] || [ -z "$(ls -A "$dir")" ] || fail "$dir is no folder of a broker, it stays"
    rm -rf "$dir"
}

# --- The start

taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Sets `port` to a free one below those that the kernel gives to outgoing connections: while the broker is down, its
# port must not become the local end of a client's connection, possibly to itself.
choose_port() { # ports that are chosen already...
    local below=32768 tries
    read -r below _ </proc/sys/net/ipv4/ip_local_port_range 2>/dev/null || true
    [ "$below" -gt 12000 ] || below=32768
    for ((tries = 0; tries < 200; tries++)); do
        port=$((10000 + (RANDOM * 32768 + RANDOM) % (below - 10000)))
        case " $* " in *" $port "*) continue ;; esac
        taken "$port" || return 0
    done
    fail "found no free port"
}

prepare() { # fills a new folder
    local name port properties ports=("$plaintext_port" "$sasl_port")
    mkdir -p "$dir"
    properties=$(<"$home/kafka/server.properties")
    for name in PLAINTEXT SASL OTHER_NAME EXPIRED_CERT EXPIRED_CA CONTROLLER; do
        choose_port "${ports[@]}"
        case $name in
        PLAINTEXT) port=${plaintext_port:-$port} ;;
        SASL) port=${sasl_port:-$port} ;;
        esac
        ! taken "$port" || fail "port $port is taken"
        ports+=("$port")
        properties=${properties//@${name}_PORT@/$port}
    done
    properties=${properties//@DIR@/$dir}
    properties=${properties//@SCRAM@/org.apache.kafka.common.security.scram.ScramLoginModule required;}
    printf '%s\n' "$properties" >"$dir/server.properties"
    "$home/kafka/tls.sh" "$dir/tls" || return 1
    "${java[@]}" -Dlog.level=warn kafka.tools.StorageTool format --standalone \
        --cluster-id="$(openssl rand -base64 16 | tr '+/' '-_' | tr -d =)" --config "$dir/server.properties" \
        >"$dir/format.log" 2>&1 || { cat "$dir/format.log" >&2; return 1; }
}

port_of() { # listener
    sed -n "s|.*\b$1://127.0.0.1:\([0-9]*\).*|\1|p" "$dir/server.properties" | head -n 1
}

write_env() {
    local file user
    {
        echo "KAFKA_VERSION=$version"
        echo "KAFKA_PLAINTEXT_SERVERS=127.0.0.1:$(port_of PLAINTEXT)"
        echo "KAFKA_SASL_SERVERS=127.0.0.1:$(port_of SASL_SSL)"
        echo "KAFKA_CA_PATH=$dir/tls/ca.crt"
        echo "KAFKA_FOREIGN_CA_PATH=$dir/tls/foreign-ca.crt"
        echo "KAFKA_EXPIRED_CA_PATH=$dir/tls/expired-ca.crt"
        echo "KAFKA_OTHER_NAME_SERVERS=127.0.0.1:$(port_of OTHER_NAME)"
        echo "KAFKA_EXPIRED_CERT_SERVERS=127.0.0.1:$(port_of EXPIRED_CERT)"
        echo "KAFKA_EXPIRED_CA_SERVERS=127.0.0.1:$(port_of EXPIRED_CA)"
        for file in "$dir"/passwords/*; do
            user=$(basename "$file")
            user=${user^^}
            echo "KAFKA_PASSWORD_${user//-/_}=$(<"$file")"
        done
        echo "KAFKA_PID_FILE=$dir/pid"
        echo "KAFKA_LOG=$dir/log"
    } >"$dir/env.new"
    mv "$dir/env.new" "$dir/env"
}

launch() { # apply or wait
    local pid code=0
    # In a session of its own, so that Ctrl-C in a terminal is for whoever uses it.
    setsid "${java[@]}" "${archiving[@]}" kafka.Kafka "$dir/server.properties" >>"$dir/log" 2>&1 </dev/null 8<&- &
    pid=$!
    started=("$pid")
    echo "$pid" >"$dir/pid"
    "${java[@]}" -Xmx64m -Dlog.level=error Setup "$1" "$dir" "$pid" "$timeout" \
        "127.0.0.1:$(port_of PLAINTEXT)" "127.0.0.1:$(port_of SASL_SSL)" "$home"/../k8s/kafka/*.yaml "$home"/kafka/less-rights.yaml >&2 &
    started+=($!)
    # In the background, since the shell heeds a signal while it waits, but not while something runs before it.
    wait $! || code=$?
    [ "$code" != 3 ] || say "the broker has ended by itself"
    return "$code"
}

end_started() {
    kill -KILL "${started[@]}" 2>/dev/null || true
    wait "${started[@]}" 2>/dev/null || true
}

give_up() { # remove or keep: what becomes of the folder
    local log_end=""
    trap - EXIT
    if [ ${#started[@]} -gt 0 ]; then
        end_started
        log_end=$(tail -n 40 "$dir/log")
    fi
    [ "$1" = keep ] || remove
    [ -z "$log_end" ] || say "the end of its log:"$'\n'"$log_end"
}

# Kills the broker once the process that it is for has ended; ends itself when the broker is stopped otherwise, or is
# for another process by then.
watch() {
    local token="$watched $$ $RANDOM"
    printf '%s\n' "$token" >"$dir/watched"
    # shellcheck disable=SC2016 # for the shell that is started here
    setsid bash -c 'while [ "$(cat "$1/watched" 2>/dev/null)" = "$2" ]; do
            [ -d "/proc/$3" ] || exec "$4" stop --dir "$1"
            sleep 1
        done' watch "$dir" "$token" "$watched" "$home/kafka.sh" >/dev/null 2>&1 </dev/null 8<&- &
}

# One start at a time in folders side by side: a second one in the same folder would take what the first has made so far
# for what a crash has left. The lock is on the folder around them, so that no file is left.
alone() {
    mkdir -p "$(dirname "$dir")"
    exec 8<"$(dirname "$dir")"
    flock 8
}

start() {
    local since=$SECONDS tries started=()
    if already_runs; then return 0; fi
    # shellcheck source=ci/kafka/fetch.sh
    . "$home/kafka/fetch.sh"
    alone
    if already_runs; then return 0; fi
    trap 'exit 130' INT
    trap 'exit 143' TERM
    if [ -e "$dir/env" ]; then
        trap 'give_up keep' EXIT
        launch wait || fail "it did not come back; its folder $dir stays"
    else
        remove
        trap 'give_up remove' EXIT
        local given="$plaintext_port$sasl_port"
        for tries in 1 2 3; do
            prepare || fail "its folder $dir could not be prepared"
            launch apply && break
            # Another one may have taken a port between our look and its start.
            if [ "$tries" = 3 ] || [ -n "$given" ] || ! grep -q 'Address already in use' "$dir/log"; then
                fail "it did not start"
            fi
            end_started
            remove
        done
        write_env
    fi
    trap - EXIT INT TERM
    exec 8<&-
    [ -z "$watched" ] || watch
    say "Apache Kafka $version answers after $((SECONDS - since)) s, pid $(running): see $dir/env"
}

case $verb in
fetch)
    # shellcheck source=ci/kafka/fetch.sh
    . "$home/kafka/fetch.sh"
    say "Apache Kafka $version is in $cache"
    ;;
start) start ;;
restart)
    [ -e "$dir/env" ] || fail "there is none in $dir"
    stop_in_order
    start
    ;;
stop)
    if [ -n "$keep" ]; then stop_in_order; else kill_broker; remove; fi
    ;;
status)
    if pid=$(running); then
        say "Apache Kafka runs, pid $pid, PLAINTEXT 127.0.0.1:$(port_of PLAINTEXT), SASL_SSL 127.0.0.1:$(port_of SASL_SSL)"
    elif [ -e "$dir/server.properties" ]; then
        say "it does not run; its folder $dir is there"
        exit 1
    else
        say "there is none in $dir"
        exit 3
    fi
    ;;
esac
