#!/usr/bin/env bash
# A real control plane of Kubernetes on loopback: etcd, kube-apiserver, kube-controller-manager and kube-scheduler, and
# one node, which runs pods as processes of this machine (libs/streamforge-devstack, `kubernetes::Node`).
#
#   ci/cluster.sh start     starts it
#   ci/cluster.sh status    says whether it runs: exit code 0 if so, 1 if a part of it has ended, 3 if nothing is there
#   ci/cluster.sh stop      kills it and removes its folder; nothing is left, also after a crash
#   ci/cluster.sh fetch     only builds the programs; `start` does so too
#
#   --dir DIR               its folder (default target/cluster)
#   --timeout SECONDS       how long it may take until it answers (default 120)
#
# DIR/kubeconfig then is an administrator's; DIR/log-* are the logs, DIR/node has what pods said. Needs Go 1.25, openssl and
# curl. The programs are built from the modules that ci/cluster/go.mod pins, once, into
# ${XDG_CACHE_HOME:-~/.cache}/streamforge: that takes some 10 minutes on 2 cores; a start then takes 5 s.
# Exit codes: 0 done, 1 failed, 2 wrong usage.
set -euo pipefail
home=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$home")
umask 077

say() { printf 'cluster: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }
usage() { say "$@"; say "see ci/cluster.sh --help"; exit 2; }

verb=""
dir="${CARGO_TARGET_DIR:-$root/target}/cluster"
timeout=120
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    --dir) [ $# -ge 2 ] || usage "$1 takes a value"; dir=$2; shift ;;
    --timeout)
        [[ ${2:-} =~ ^[0-9]{1,5}$ ]] || usage "$1 takes seconds"
        timeout=$2; shift ;;
    start | stop | status | fetch) [ -z "$verb" ] || usage "one verb only"; verb=$1 ;;
    *) usage "no such verb or option: $1" ;;
    esac
    shift
done
[ -n "$verb" ] || usage "start, stop, status or fetch?"
[ -n "$dir" ] || usage "--dir takes a folder"
dir=$(realpath -m -- "$dir")
[[ $dir =~ ^[A-Za-z0-9_./@+-]+$ ]] || usage "--dir takes letters, digits and _./@+- only: '$dir'"

version=$(sed -n 's|^require k8s.io/kubernetes \(v[0-9.]*\)$|\1|p' "$home/cluster/go.mod")
digest=$(cat "$home/cluster/go.mod" "$home/cluster/go.sum" | sha256sum | cut -c1-12)
programs="${XDG_CACHE_HOME:-$HOME/.cache}/streamforge/kubernetes-$version-$digest"
parts=(etcd kube-apiserver kube-controller-manager kube-scheduler node)

# --- The programs

fetch() {
    [ -d "$programs" ] && return 0
    local tool new since=$SECONDS package
    for tool in go openssl curl; do
        command -v $tool >/dev/null || fail "$tool is missing"
    done
    mkdir -p "$(dirname "$programs")"
    exec 9<"$(dirname "$programs")"
    flock 9
    [ -d "$programs" ] && return 0
    say "building Kubernetes $version, once; this takes some 10 minutes"
    new=$(mktemp -d "$programs.XXXXXX")
    # shellcheck disable=SC2064 # the folder of now
    trap "rm -rf '$new'" EXIT
    for package in k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kubectl} \
        go.etcd.io/etcd/server/v3; do
        tool=$(basename "$package")
        [ "$tool" != v3 ] || tool=etcd
        (cd "$home/cluster" && CGO_ENABLED=0 nice go build -buildvcs=false -trimpath -ldflags "-s -w" \
            -o "$new/$tool" "$package") || fail "can't build $package"
    done
    mv -T "$new" "$programs"
    trap - EXIT
    exec 9<&-
    say "built in $((SECONDS - since)) s"
}

# --- The processes. Each is known by its number and by a file of this folder on its command line.

running() { # part
    local pid
    pid=$(cat "$dir/pid-$1" 2>/dev/null) && [ -n "$pid" ] || return 1
    { tr '\0' ' ' <"/proc/$pid/cmdline"; } 2>/dev/null | grep -qF "$dir/" || return 1
    printf '%s' "$pid"
}

gone() { # part tenths: waits until it has ended
    local left=$2
    while running "$1" >/dev/null; do
        [ $((left -= 1)) -ge 0 ] || return 1
        sleep 0.1
    done
}

run() { # part command...
    local part=$1
    shift
    setsid "$@" >"$dir/log-$part" 2>&1 </dev/null &
    echo $! >"$dir/pid-$part"
}

stop() {
    local part pid
    # The node first, and in order: it kills what it runs.
    if pid=$(running node); then
        kill -TERM "$pid" 2>/dev/null || true
        gone node 50 || true
    fi
    for part in node kube-scheduler kube-controller-manager kube-apiserver etcd; do
        pid=$(running "$part") || continue
        kill -KILL "$pid" 2>/dev/null || true
        gone "$part" 100 || fail "process $pid ($part) does not end"
    done
    [ -e "$dir" ] || return 0
    [ -e "$dir/tls" ] || [ -z "$(ls -A "$dir")" ] || fail "$dir is no folder of a cluster, it stays"
    rm -rf "$dir"
}

# --- The start

taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

choose_port() { # sets `port`; ports that are chosen already...
    local tries
    for ((tries = 0; tries < 200; tries++)); do
        port=$((10000 + (RANDOM * 32768 + RANDOM) % 20000))
        case " $* " in *" $port "*) continue ;; esac
        taken "$port" || return 0
    done
    fail "found no free port"
}

certificate() { # name subject usage
    local key="$dir/tls/$1.key"
    openssl ecparam -name prime256v1 -genkey -noout -out "$key"
    openssl req -new -key "$key" -subj "$2" | openssl x509 -req -days 7 -CA "$dir/tls/ca.crt" -CAkey "$dir/tls/ca.key" \
        -CAcreateserial -out "$dir/tls/$1.crt" -extfile <(
        echo "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:kubernetes.default.svc"
        echo "extendedKeyUsage=$3"
    ) 2>/dev/null
}

certificates() {
    mkdir -p "$dir/tls"
    openssl ecparam -name prime256v1 -genkey -noout -out "$dir/tls/ca.key"
    openssl req -x509 -new -key "$dir/tls/ca.key" -days 7 -subj "/CN=streamforge-cluster" -out "$dir/tls/ca.crt"
    certificate server "/CN=127.0.0.1" serverAuth,clientAuth
    certificate admin "/O=system:masters/CN=admin" clientAuth
    openssl genrsa -out "$dir/tls/accounts.key" 2048 2>/dev/null
    openssl rsa -in "$dir/tls/accounts.key" -pubout -out "$dir/tls/accounts.pub" 2>/dev/null
}

kubeconfig() { # port
    cat >"$dir/kubeconfig" <<END
apiVersion: v1
kind: Config
current-context: streamforge
clusters: [{name: streamforge, cluster: {server: "https://127.0.0.1:$1", certificate-authority: "$dir/tls/ca.crt"}}]
users: [{name: admin, user: {client-certificate: "$dir/tls/admin.crt", client-key: "$dir/tls/admin.key"}}]
contexts: [{name: streamforge, context: {cluster: streamforge, user: admin}}]
END
}

ask() { # path
    curl --silent --fail --max-time 5 --cacert "$dir/tls/ca.crt" --cert "$dir/tls/admin.crt" --key "$dir/tls/admin.key" \
        "https://127.0.0.1:$api$1"
}

await() { # what path text
    local part
    until ask "$2" 2>/dev/null | grep -q "$3"; do
        for part in "${parts[@]}"; do
            [ ! -e "$dir/pid-$part" ] || running "$part" >/dev/null || {
                tail -n 20 "$dir/log-$part" >&2
                fail "$part has ended"
            }
        done
        [ $((SECONDS - since)) -lt "$timeout" ] || fail "$1: not within $timeout s, see $dir/log-*"
        sleep 0.2
    done
}

start() {
    local since=$SECONDS etcd peer api port tls="$dir/tls"
    if running kube-apiserver >/dev/null; then
        say "it already runs"
        return 0
    fi
    fetch
    (cd "$root" && cargo build --quiet --locked --workspace --features streamforge-devstack/kubernetes --bin streamforge --example node) ||
        fail "can't build the node"
    since=$SECONDS
    stop
    trap 'stop' EXIT
    mkdir -p "$dir"
    certificates
    choose_port; etcd=$port
    choose_port "$etcd"; peer=$port
    choose_port "$etcd" "$peer"; api=$port
    kubeconfig "$api"
    run etcd "$programs/etcd" --data-dir "$dir/etcd" --unsafe-no-fsync --log-level warn \
        --listen-client-urls "https://127.0.0.1:$etcd" --advertise-client-urls "https://127.0.0.1:$etcd" \
        --listen-peer-urls "http://127.0.0.1:$peer" --initial-advertise-peer-urls "http://127.0.0.1:$peer" \
        --initial-cluster "default=http://127.0.0.1:$peer" \
        --cert-file "$tls/server.crt" --key-file "$tls/server.key" --client-cert-auth --trusted-ca-file "$tls/ca.crt"
    run kube-apiserver "$programs/kube-apiserver" --bind-address 127.0.0.1 --secure-port "$api" \
        --etcd-servers "https://127.0.0.1:$etcd" --etcd-cafile "$tls/ca.crt" --etcd-certfile "$tls/server.crt" \
        --etcd-keyfile "$tls/server.key" --tls-cert-file "$tls/server.crt" --tls-private-key-file "$tls/server.key" \
        --client-ca-file "$tls/ca.crt" --authorization-mode RBAC --anonymous-auth=false \
        --service-cluster-ip-range 10.0.0.0/24 --endpoint-reconciler-type none \
        --service-account-issuer https://kubernetes.default.svc --service-account-key-file "$tls/accounts.pub" \
        --service-account-signing-key-file "$tls/accounts.key" \
        --kubelet-certificate-authority "$tls/ca.crt" --kubelet-client-certificate "$tls/admin.crt" \
        --kubelet-client-key "$tls/admin.key"
    await "the API server" /readyz ok
    run kube-controller-manager "$programs/kube-controller-manager" --kubeconfig "$dir/kubeconfig" --leader-elect=false \
        --secure-port 0 --service-account-private-key-file "$tls/accounts.key" --root-ca-file "$tls/ca.crt"
    run kube-scheduler "$programs/kube-scheduler" --kubeconfig "$dir/kubeconfig" --leader-elect=false --secure-port 0
    # Beside other things of this name a node is known by its folder, too.
    KUBECONFIG="$dir/kubeconfig" run node "${CARGO_TARGET_DIR:-$root/target}/debug/examples/node" streamforge-node \
        "${CARGO_TARGET_DIR:-$root/target}/debug/streamforge" "$dir/node" "$tls/server.crt" "$tls/server.key"
    await "the node" /api/v1/nodes/streamforge-node '"reason": "KubeletReady"'
    await "an account" /api/v1/namespaces/default/serviceaccounts/default '"name": "default"'
    trap - EXIT
    say "Kubernetes $version answers after $((SECONDS - since)) s: export KUBECONFIG=$dir/kubeconfig," \
        "kubectl is $programs/kubectl"
}

case $verb in
fetch)
    fetch
    say "Kubernetes $version is in $programs"
    ;;
start) start ;;
stop) stop ;;
status)
    [ -e "$dir/kubeconfig" ] || { say "there is none in $dir"; exit 3; }
    for part in "${parts[@]}"; do
        running "$part" >/dev/null || { say "$part has ended, see $dir/log-$part"; exit 1; }
    done
    say "Kubernetes $version runs: export KUBECONFIG=$dir/kubeconfig"
    ;;
esac
