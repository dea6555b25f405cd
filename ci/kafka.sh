#!/usr/bin/env bash
# A real Apache Kafka on loopback: one node or several, KRaft, TLS, SCRAM users, and the rights and topics of k8s/kafka.
#
#   ci/kafka.sh start     starts it, or goes on with what `stop --keep`, a crash or a kill left
#   ci/kafka.sh status    says whether it runs: exit code 0 if so, 1 if only its folder is there, 3 if nothing is
#   ci/kafka.sh restart   stops it in order and starts it again; data, ports and passwords stay
#   ci/kafka.sh stop      kills it and removes its folder; nothing is left, also after a crash
#   ci/kafka.sh kill      kills it as a crash does; its folder stays, for `start`
#   ci/kafka.sh freeze    stops its process with SIGSTOP; `thaw` continues it
#   ci/kafka.sh fetch     only makes sure of tools and jars; `start` does so too
#
#   --brokers N           with a first `start`: N brokers (1, or 3 to 9), each in DIR/broker-1, DIR/broker-2, …; replication
#                         3 and min.insync.replicas 2. All verbs then are for all of them
#   --broker N            start, stop --keep, restart, kill, freeze, thaw and status of this one only
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
brokers="" only=""
dir="${CARGO_TARGET_DIR:-$(dirname "$home")/target}/kafka"
keep="" watched="" plaintext_port="" sasl_port="" archive_to="" timeout=60
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    --keep) keep=1 ;;
    --dir | --brokers | --broker | --while | --plaintext-port | --sasl-port | --timeout | --archive)
        [ $# -ge 2 ] || usage "$1 takes a value"
        case $1 in
        --dir) dir=$2 ;;
        --brokers) brokers=$(number "$1" "$2") ;;
        --broker) only=$(number "$1" "$2") ;;
        --while) watched=$(number "$1" "$2") ;;
        --plaintext-port) plaintext_port=$(number "$1" "$2") ;;
        --sasl-port) sasl_port=$(number "$1" "$2") ;;
        --timeout) timeout=$(number "$1" "$2") ;;
        --archive) archive_to=$2 ;; # for ci/kafka/fetch.sh only
        esac
        shift ;;
    -*) usage "no such option: $1" ;;
    start | stop | status | restart | kill | freeze | thaw | fetch) [ -z "$verb" ] || usage "one verb only"; verb=$1 ;;
    *) usage "no such verb: $1" ;;
    esac
    shift
done
[ -n "$verb" ] || usage "start, stop, status, restart, kill, freeze, thaw or fetch?"
[ -n "$dir" ] || usage "--dir takes a folder"
# One spelling, since the process is known by it; and such that Kafka and a shell can read it from files.
dir=$(realpath -m -- "$dir")
[[ $dir =~ ^[A-Za-z0-9_./@+-]+$ ]] || usage "--dir takes letters, digits and _./@+- only: '$dir'"

[ -z "$brokers" ] || [ "$verb" = start ] || usage "--brokers is for start only"
[ -z "$brokers" ] || [ -z "$only" ] || usage "either --brokers or --broker"
case ${brokers:-1} in 1 | [3-9]) ;; *) usage "--brokers takes 1, or 3 to 9, not '$brokers'" ;; esac
[ "${brokers:-1}" = 1 ] || [ -z "$plaintext_port$sasl_port" ] || usage "ports can be chosen for a single broker only"
[ "$verb" != stop ] || [ -z "$only" ] || [ -n "$keep" ] || usage "stop --broker needs --keep: the folder is for all"

# --- The brokers of the folder

# How many it has: 1, unless it has folders of several; 0 if it is no folder of brokers.
count() {
    local folders=("$dir"/broker-*/)
    if [ -d "${folders[0]}" ]; then
        echo ${#folders[@]}
    elif [ -e "$dir/server.properties" ]; then
        echo 1
    else
        echo 0
    fi
}

# The numbers of those that the verb is for, one a line.
chosen() {
    if [ -n "$only" ]; then echo "$only"; else seq "$(count)"; fi
}

# Where the files of a broker are: the folder itself, if there is one only.
folder() { # number
    if [ -d "$dir/broker-1" ]; then printf '%s' "$dir/broker-$1"; else printf '%s' "$dir"; fi
}

# What a broker is called in messages.
named() { # number
    if [ -d "$dir/broker-1" ]; then printf 'broker %s' "$1"; else printf 'it'; fi
}

[ "$verb" = fetch ] || [ -z "$only" ] || { [ "$only" -ge 1 ] && [ "$only" -le "$(count)" ]; } ||
    fail "there is no broker $only in $dir, which has $(count)"

# --- The process

# The process of a broker, if it runs. A pid that another process has by now, or a zombie, is none.
running() { # number
    local pid at
    at=$(folder "$1")
    pid=$(cat "$at/pid" 2>/dev/null) && [ -n "$pid" ] || return 1
    { tr '\0' ' ' <"/proc/$pid/cmdline"; } 2>/dev/null | grep -qF " kafka.Kafka $at/server.properties" || return 1
    printf '%s' "$pid"
}

frozen() { # pid
    grep -q '^State:[[:space:]]*[Tt]' "/proc/$1/status" 2>/dev/null
}

# Those of the chosen ones that run, or that do not.
those() { # running or idle
    local number
    for number in $(chosen); do
        if running "$number" >/dev/null; then
            [ "$1" != running ] || echo "$number"
        else
            [ "$1" != idle ] || echo "$number"
        fi
    done
}

already_runs() {
    local number
    [ "$(count)" != 0 ] && [ -z "$(those idle)" ] || return 1
    for number in $(chosen); do
        say "$(named "$number") already runs, pid $(running "$number")"
    done
}

gone() { # seconds, numbers...: waits until they have ended
    local tenths=$(($1 * 10)) number
    shift
    for number in "$@"; do
        while running "$number" >/dev/null; do
            [ $((tenths -= 1)) -ge 0 ] || return 1
            sleep 0.1
        done
    done
}

signal() { # signal, numbers...
    local number pid name=$1
    shift
    for number in "$@"; do
        pid=$(running "$number") || continue
        kill "-$name" "$pid" 2>/dev/null || true
    done
}

kill_brokers() {
    local alive
    mapfile -t alive < <(those running)
    signal KILL "${alive[@]}"
    gone 10 "${alive[@]}" || fail "$(those running | paste -sd' '): does not end after SIGKILL"
}

# A broker hands its partitions over before it ends, which takes a controller: the last of several has none left, so it
# gets less time.
stop_in_order() {
    local alive patience=30
    mapfile -t alive < <(those running)
    [ ${#alive[@]} -gt 0 ] || { say "$(if [ -n "$only" ]; then named "$only"; else echo it; fi) does not run"; return 0; }
    signal TERM "${alive[@]}"
    signal CONT "${alive[@]}"
    if [ ${#alive[@]} -gt 1 ]; then
        for ((tries = 0; tries < 300; tries++)); do
            mapfile -t alive < <(those running)
            [ ${#alive[@]} -gt 1 ] || break
            sleep 0.1
        done
        patience=3
    fi
    gone "$patience" "${alive[@]}" && return 0
    [ "$patience" = 3 ] || say "${alive[*]/#/broker } did not stop within $patience s and is killed"
    kill_brokers
}

remove() {
    [ -e "$dir" ] || return 0
    # The folder is ours only if we made it.
    [ "$(count)" != 0 ] || [ -z "$(ls -A "$dir")" ] || fail "$dir is no folder of a broker, it stays"
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

uuid() { openssl rand -base64 16 | tr '+/' '-_' | tr -d =; }

# Writes the settings of a broker with free ports. Adds its ports to `ports`, and itself to `voters` and `controllers`.
write_properties() { # number, its folder
    local name properties at=$2
    properties=$(<"$home/kafka/server.properties")
    [ "${brokers:-1}" = 1 ] || properties+=$'\n'$(<"$home/kafka/several.properties")
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
    voters+=("$1@127.0.0.1:$port:$(uuid)")
    controllers+=("127.0.0.1:$port")
    properties=${properties//@NODE@/$1}
    # The folder of its own, except for what all share.
    properties=${properties//@DIR@\/data/$at/data}
    properties=${properties//@DIR@/$dir}
    properties=${properties//@SCRAM@/org.apache.kafka.common.security.scram.ScramLoginModule required;}
    printf '%s\n' "$properties" >"$at/server.properties"
}

format() { # its folder, cluster id, options...
    local at=$1 cluster=$2
    shift 2
    "${java[@]}" -Dlog.level=warn kafka.tools.StorageTool format "$@" --cluster-id="$cluster" \
        --config "$at/server.properties" >"$at/format.log" 2>&1 || { cat "$at/format.log" >&2; return 1; }
}

prepare() { # fills a new folder
    local number port cluster formats=() ports=("$plaintext_port" "$sasl_port") voters=() controllers=()
    mkdir -p "$dir"
    for number in $(seq "${brokers:-1}"); do
        [ "${brokers:-1}" = 1 ] || mkdir -p "$dir/broker-$number"
        write_properties "$number" "$(folder "$number")"
    done
    "$home/kafka/tls.sh" "$dir/tls" || return 1
    cluster=$(uuid)
    if [ "${brokers:-1}" = 1 ]; then
        format "$dir" "$cluster" --standalone
        return
    fi
    for number in $(seq "$brokers"); do
        sed -i "s|@CONTROLLERS@|$(IFS=,; echo "${controllers[*]}")|" "$dir/broker-$number/server.properties"
        format "$dir/broker-$number" "$cluster" --initial-controllers "$(IFS=,; echo "${voters[*]}")" &
        formats+=($!)
    done
    for number in "${formats[@]}"; do
        wait "$number" || return 1
    done
}

port_of() { # listener, number
    sed -n "s|.*\b$1://127.0.0.1:\([0-9]*\).*|\1|p" "$(folder "$2")/server.properties" | head -n 1
}

servers() { # listener, numbers...
    local listener=$1 number all=()
    shift
    for number in "$@"; do
        all+=("127.0.0.1:$(port_of "$listener" "$number")")
    done
    (IFS=,; echo "${all[*]}")
}

write_env() {
    local file user number all
    mapfile -t all < <(seq "$(count)")
    {
        echo "KAFKA_VERSION=$version"
        echo "KAFKA_PLAINTEXT_SERVERS=$(servers PLAINTEXT "${all[@]}")"
        echo "KAFKA_SASL_SERVERS=$(servers SASL_SSL "${all[@]}")"
        echo "KAFKA_CA_PATH=$dir/tls/ca.crt"
        echo "KAFKA_FOREIGN_CA_PATH=$dir/tls/foreign-ca.crt"
        echo "KAFKA_EXPIRED_CA_PATH=$dir/tls/expired-ca.crt"
        echo "KAFKA_OTHER_NAME_SERVERS=$(servers OTHER_NAME "${all[@]}")"
        echo "KAFKA_EXPIRED_CERT_SERVERS=$(servers EXPIRED_CERT "${all[@]}")"
        echo "KAFKA_EXPIRED_CA_SERVERS=$(servers EXPIRED_CA "${all[@]}")"
        for file in "$dir"/passwords/*; do
            user=$(basename "$file")
            user=${user^^}
            echo "KAFKA_PASSWORD_${user//-/_}=$(<"$file")"
        done
        if [ ${#all[@]} = 1 ]; then
            echo "KAFKA_PID_FILE=$dir/pid"
            echo "KAFKA_LOG=$dir/log"
        else
            echo "KAFKA_BROKERS=${#all[@]}"
            for number in "${all[@]}"; do
                echo "KAFKA_PID_FILE_$number=$dir/broker-$number/pid"
                echo "KAFKA_LOG_$number=$dir/broker-$number/log"
            done
        fi
    } >"$dir/env.new"
    mv "$dir/env.new" "$dir/env"
}

launch() { # apply or wait
    local number at code=0 pids=() launched
    mapfile -t launched < <(those idle)
    for number in "${launched[@]}"; do
        at=$(folder "$number")
        # In a session of its own, so that Ctrl-C in a terminal is for whoever uses it.
        setsid "${java[@]}" ${heap:+"$heap"} "${archiving[@]}" kafka.Kafka "$at/server.properties" >>"$at/log" 2>&1 \
            </dev/null 8<&- &
        pids+=($!)
        echo $! >"$at/pid"
        logs+=("$at/log")
    done
    started=("${pids[@]}")
    "${java[@]}" -Xmx64m -Dlog.level=error Setup "$1" "$dir" "$(IFS=,; echo "${pids[*]}")" "$timeout" \
        "$(servers PLAINTEXT "${launched[@]}")" "$(servers SASL_SSL "${launched[@]}")" \
        "$home"/../k8s/kafka/*.yaml "$home"/kafka/less-rights.yaml >&2 &
    started+=($!)
    # In the background, since the shell heeds a signal while it waits, but not while something runs before it.
    wait $! || code=$?
    [ "$code" != 3 ] || say "a broker has ended by itself"
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
        log_end=$(tail -n 40 "${logs[@]}")
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
    local since=$SECONDS tries heap="" started=() logs=()
    if [ -n "$brokers" ] && [ -e "$dir/env" ] && [ "$(count)" != "$brokers" ]; then
        fail "$dir has $(count) of --brokers $brokers: stop them first, or take another --dir"
    fi
    if already_runs; then return 0; fi
    # shellcheck source=ci/kafka/fetch.sh
    . "$home/kafka/fetch.sh"
    alone
    if already_runs; then return 0; fi
    trap 'exit 130' INT
    trap 'exit 143' TERM
    if [ -e "$dir/env" ]; then
        [ "$(count)" = 1 ] || heap=-Xmx320m
        trap 'give_up keep' EXIT
        launch wait || fail "it did not come back; its folder $dir stays"
    else
        [ -z "$only" ] || fail "there are no brokers in $dir that were started before"
        [ "${brokers:-1}" = 1 ] || heap=-Xmx320m
        remove
        trap 'give_up remove' EXIT
        local given="$plaintext_port$sasl_port"
        for tries in 1 2 3; do
            prepare || fail "its folder $dir could not be prepared"
            launch apply && break
            # Another one may have taken a port between our look and its start.
            if [ "$tries" = 3 ] || [ -n "$given" ] || ! grep -q 'Address already in use' "${logs[@]}"; then
                fail "it did not start"
            fi
            end_started
            remove
            logs=()
        done
        write_env
    fi
    trap - EXIT INT TERM
    exec 8<&-
    [ -z "$watched" ] || watch
    local number pids=()
    for number in $(chosen); do
        pids+=("$(running "$number")")
    done
    say "Apache Kafka $version answers after $((SECONDS - since)) s, pid ${pids[*]}: see $dir/env"
}

status() { # number; 1 if it does not run
    local pid state=runs
    if ! pid=$(running "$1"); then
        say "$(named "$1") does not run; its folder $(folder "$1") is there"
        return 1
    fi
    ! frozen "$pid" || state="is frozen"
    say "$([ "$(count)" = 1 ] || echo "broker $1: ")Apache Kafka $state, pid $pid, PLAINTEXT 127.0.0.1:$(port_of PLAINTEXT "$1")," \
        "SASL_SSL 127.0.0.1:$(port_of SASL_SSL "$1")"
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
    if [ -n "$keep" ]; then stop_in_order; else kill_brokers; remove; fi
    ;;
kill | freeze | thaw)
    mapfile -t alive < <(those running)
    [ ${#alive[@]} -gt 0 ] || fail "none runs in $dir that could be told to $verb"
    case $verb in
    kill) kill_brokers ;;
    freeze) signal STOP "${alive[@]}" ;;
    thaw) signal CONT "${alive[@]}" ;;
    esac
    ;;
status)
    [ "$(count)" != 0 ] || { say "there is none in $dir"; exit 3; }
    code=0
    for number in $(chosen); do
        status "$number" || code=1
    done
    exit "$code"
    ;;
esac
