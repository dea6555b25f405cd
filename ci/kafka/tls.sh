#!/usr/bin/env bash
# Makes what ci/kafka.sh needs of TLS, good and bad. $1: a folder, which is filled with
#   ca.crt            the CA that clients should trust
#   foreign-ca.crt    another CA, which has signed nothing here
#   expired-ca.crt    a CA that expired in 2021
#   server.pem        key and certificate for localhost, 127.0.0.1 and ::1, by the CA
#   other-name.pem    the same for another host name
#   expired-cert.pem  the same as server.pem, but expired in 2021
#   by-expired-ca.pem the same as server.pem, but by the expired CA
# The keys of the CAs are not kept.
set -euo pipefail
umask 077
mkdir -p "$1"
cd "$1"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log=$work/log

# `openssl ca`, since it is what can set both ends of the validity in every version of OpenSSL.
cat >"$work/ca.cnf" <<'CONFIG'
[ca]
default_ca = own
[own]
database = $ENV::WORK/index.txt
new_certs_dir = $ENV::WORK
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
[any]
commonName = supplied
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[here]
basicConstraints = CA:false
subjectAltName = DNS:localhost, IP:127.0.0.1, IP:::1
[elsewhere]
basicConstraints = CA:false
subjectAltName = DNS:kafka.elsewhere.invalid
[req]
distinguished_name = name
[name]
CONFIG
export WORK=$work
: >"$work/index.txt"

year=$(date -u +%Y)
# Generous at both ends: no test is about how long they last.
valid=("$((year - 1))0101000000Z" "$((year + 2))0101000000Z")
expired=(20200101000000Z 20210101000000Z)

quietly() {
    "$@" >>"$log" 2>&1 || { echo "openssl failed: $*" >&2; cat "$log" >&2; exit 1; }
}

request() { # name, common name
    quietly openssl req -new -config "$work/ca.cnf" -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
        -subj "/CN=$2" -keyout "$work/$1.key" -out "$work/$1.csr"
}

authority() { # name, from, to
    request "$1" "StreamForge test $1"
    quietly openssl ca -batch -notext -config "$work/ca.cnf" -selfsign -keyfile "$work/$1.key" -in "$work/$1.csr" \
        -extensions authority -startdate "$2" -enddate "$3" -out "$1.crt"
}

server() { # name, authority, extensions, from, to
    request "$1" "$1"
    quietly openssl ca -batch -notext -config "$work/ca.cnf" -keyfile "$work/$2.key" -cert "$2.crt" \
        -in "$work/$1.csr" -extensions "$3" -startdate "$4" -enddate "$5" -out "$work/$1.crt"
    cat "$work/$1.key" "$work/$1.crt" >"$1.pem"
}

authority ca "${valid[@]}"
authority foreign-ca "${valid[@]}"
authority expired-ca "${expired[@]}"
server server ca here "${valid[@]}"
server other-name ca elsewhere "${valid[@]}"
server expired-cert ca here "${expired[@]}"
server by-expired-ca expired-ca here "${valid[@]}"
