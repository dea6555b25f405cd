#!/usr/bin/env bash
# Makes sure of what the build needs besides cargo's own crates: cargo, a C and C++ compiler, make, pkg-config and
# OpenSSL's headers. Installs what is missing with apt where it may; else says exactly what to install, and exits 1.
# With VENDORED_OPENSSL=1 OpenSSL is built from source (feature `vendored-openssl`), which needs perl instead.
set -euo pipefail

rust_version=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")

have_openssl() { pkg-config --exists 'openssl >= 1.1.1' 2>/dev/null; }
have() { command -v "$1" >/dev/null 2>&1; }

# What is missing, as pairs of a name for people and a Debian package.
missing() {
    have cc || echo "a C compiler:gcc"
    have c++ || echo "a C++ compiler:g++"
    have make || echo "make:make"
    if [ "${VENDORED_OPENSSL:-}" = 1 ]; then
        have perl || echo "perl:perl"
    else
        have pkg-config || echo "pkg-config:pkg-config"
        have_openssl || echo "OpenSSL's headers:libssl-dev"
    fi
}

if ! have cargo && [ -x "$HOME/.cargo/bin/cargo" ]; then
    echo "cargo is in $HOME/.cargo/bin, which is not in PATH: run '. $HOME/.cargo/env' first" >&2
    exit 1
fi
if ! have cargo; then
    echo "cargo is missing: install Rust $rust_version or newer as https://rustup.rs says, then run this again" >&2
    exit 1
fi

lacking=$(missing)
[ -z "$lacking" ] && exit 0
packages=$(printf '%s\n' "$lacking" | cut -d: -f2 | paste -sd' ')

as_root=""
[ "$(id -u)" = 0 ] || as_root="sudo -n"
if have apt-get && { [ -z "$as_root" ] || sudo -n true 2>/dev/null; }; then
    echo "Installing with apt: $packages" >&2
    # shellcheck disable=SC2086 # both are lists of words
    { $as_root apt-get update -qq &&
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y $packages >/dev/null; } || true
    lacking=$(missing)
    [ -z "$lacking" ] && exit 0
fi

{
    echo "The build still needs:"
    printf '%s\n' "$lacking" | sed 's/\(.*\):\(.*\)/  \1 (Debian and Ubuntu: \2)/'
    echo "Install with: sudo apt-get install $packages"
    echo "On other systems: the same tools, and OpenSSL's headers (openssl-devel, openssl-dev);"
    echo "where these can't be had: make VENDORED_OPENSSL=1, which builds OpenSSL from source and needs perl."
} >&2
exit 1
