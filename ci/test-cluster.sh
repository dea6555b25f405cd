#!/usr/bin/env bash
# Runs whole workflows as Jobs of the cluster that KUBECONFIG points to: those of services/streamforge/tests/it/clustered.
#
#   ci/test-cluster.sh --namespace NAME [--env FILE] [TEST]
#
#   --namespace NAME   a namespace of its own. It must not be there: it is made, and removed at the end with all in it
#   --env FILE         KEY=value lines: what pods use in place of the dev stack, see below
#   --keep             leaves the namespace, to look around
#   TEST               the beginning of the tests' names: whole, hurt, stuck, unreachable; default all
#
# It needs, in order:
# - kubectl (or KUBECTL), and the rights to make namespaces, roles, Jobs, pods, ConfigMaps and Secrets, to evict pods, and
#   to get a token for a service account. Kubernetes 1.31 or newer. queue-manager itself runs on this machine, as the
#   service account and with the rights of k8s/queue-manager/rbac.yaml, and no more.
# - Pods that run, with the images IMAGE_REGISTRY/TARGET:IMAGE_TAG. On the node of ci/cluster.sh there are no images:
#   it runs the programs of this tree.
# - Kafka, ArangoDB and the exchange, reached under the same names from this machine and from pods. On the node of
#   ci/cluster.sh those are the dev stack's, or of Kafka the one that STREAMFORGE_KAFKA_DIR names. Elsewhere FILE says
#   where they are: KAFKA_*, ARANGO_*, BINANCE_API_URL, and IMAGE_REGISTRY, IMAGE_TAG.
#
# What a real cluster can't be told to do is printed as "NOT RUN: …", and listed at the end. Exit codes: 0 all passed, 1 a
# test failed, 2 wrong usage, 3 the cluster lacks something, so that nothing was run.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 077

say() { printf 'test-cluster: %s\n' "$*" >&2; }
usage() { say "$@"; say "see ci/test-cluster.sh --help"; exit 2; }
lacks() { say "$@"; exit 3; }

namespace="" env_file="" keep="" filter=""
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    --namespace | --env)
        [ $# -ge 2 ] || usage "$1 takes a value"
        case $1 in
        --namespace) namespace=$2 ;;
        --env) env_file=$2 ;;
        esac
        shift ;;
    --keep) keep=1 ;;
    -*) usage "no such option: $1" ;;
    *) [ -z "$filter" ] || usage "one part of a name only"; filter=$1 ;;
    esac
    shift
done
[ -n "$namespace" ] || usage "--namespace is missing: it runs in no namespace but one of its own"
[[ $namespace =~ ^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$ ]] || usage "'$namespace' is no name of a namespace"
case $namespace in
default | kube-*) usage "'$namespace' belongs to the cluster" ;;
esac
[ -z "$env_file" ] || [ -r "$env_file" ] || usage "$env_file can't be read"
[ -n "${KUBECONFIG:-}" ] || usage "KUBECONFIG is not set: it says which cluster"

kubectl=${KUBECTL:-$(command -v kubectl || true)}
if [ -z "$kubectl" ]; then
    # shellcheck disable=SC2012 # names of ours
    kubectl=$(ls -t "${XDG_CACHE_HOME:-$HOME/.cache}"/streamforge/kubernetes-*/kubectl 2>/dev/null | head -n 1)
fi
[ -n "$kubectl" ] || lacks "kubectl is missing"
k() { "$kubectl" --request-timeout 20s "$@"; }

k get --raw /readyz >/dev/null || lacks "the cluster does not answer"
if k get namespace "$namespace" >/dev/null 2>&1; then
    usage "namespace $namespace is there already: choose another name, it would be removed"
fi
ours=$(k get nodes -o jsonpath='{.items[*].status.nodeInfo.containerRuntimeVersion}') || lacks "its nodes can't be listed"
case " $ours " in
*" process://"*) ;;
*) [ -n "$env_file" ] || lacks "its pods don't run on this machine, so they don't reach the dev stack: --env is needed" ;;
esac

# Of the whole workspace, as all tests are built: for one package alone cargo would build its dependencies again.
test=$(cargo test --quiet --locked --workspace --no-run --message-format=json |
    grep '"package_id":"[^"]*services/streamforge#.*"name":"it"' | sed 's/.*"executable":"\([^"]*\)".*/\1/')
[ -x "$test" ] || lacks "the tests can't be built"

own=$(mktemp -d)
# shellcheck disable=SC2329 # by the trap
tidy() {
    local code=$?
    rm -rf "$own"
    if [ -z "$keep" ]; then
        k delete namespace "$namespace" --ignore-not-found --wait --timeout 180s --request-timeout 190s >&2 || {
            say "namespace $namespace could not be removed"
            [ "$code" != 0 ] || code=1
        }
    fi
    exit "$code"
}
trap tidy EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

k create namespace "$namespace" >&2
sed "s/^    namespace: .*/    namespace: $namespace/" k8s/queue-manager/rbac.yaml | k apply -n "$namespace" -f - >&2
of_cluster() { k config view --minify --flatten --raw -o jsonpath="{.clusters[0].cluster.$1}"; }
{
    echo "apiVersion: v1"
    echo "kind: Config"
    echo "current-context: test"
    echo "clusters:"
    echo "  - name: test"
    echo "    cluster:"
    echo "      server: $(of_cluster server)"
    authority=$(of_cluster certificate-authority-data)
    [ -z "$authority" ] || echo "      certificate-authority-data: $authority"
    server_name=$(of_cluster tls-server-name)
    [ -z "$server_name" ] || echo "      tls-server-name: $server_name"
    echo "users:"
    echo "  - name: queue-manager"
    echo "    user: {token: $(k create token queue-manager -n "$namespace" --duration 4h)}"
    echo "contexts:"
    echo "  - name: test"
    echo "    context: {cluster: test, user: queue-manager, namespace: $namespace}"
} >"$own/manager"
# An account of pods is made by the cluster, a moment later.
for ((tries = 0; tries < 150; tries++)); do
    k get serviceaccount default -n "$namespace" >/dev/null 2>&1 && break
    sleep 0.2
done

export STREAMFORGE_CLUSTER_NAMESPACE=$namespace STREAMFORGE_CLUSTER_MANAGER=$own/manager
[ -z "$env_file" ] || STREAMFORGE_CLUSTER_ENV=$(realpath -- "$env_file")
[ -z "$env_file" ] || export STREAMFORGE_CLUSTER_ENV
code=0
# One after the other, since all are in one namespace.
(cd services/streamforge && "$test" --test-threads 1 --nocapture "clustered::$filter") 2>&1 |
    tee "$own/log" || code=1
if grep -q 'NOT RUN' "$own/log"; then
    printf '\nNOT RUN on this cluster\n'
    grep -o 'NOT RUN: .*' "$own/log" | sed 's/^NOT RUN: /  /' | sort | uniq
fi
awk '/^test result:/ { passed += $4; failed += $6 } END {
    printf "\n%d tests passed, %d failed\n", passed, failed
    exit passed == 0
}' "$own/log" || code=1
left=$(k get jobs,pods -n "$namespace" -o name)
if [ -n "$left" ]; then
    say "left over by the tests:"
    printf '%s\n' "$left" >&2
    code=1
fi
exit $code
