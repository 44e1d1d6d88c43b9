#!/usr/bin/env bash
# setup.sh: installs what the tests and the demo need and is missing: Debian packages for the
# local Kubernetes or, as `setup.sh conformance`, for the clients of `make conformance`. Says
# nothing when everything is there. Rust and Go it only checks.
set -euo pipefail

oldest_go=26 # 1.x
fail() { echo "e2e/setup.sh: $*" >&2; exit 1; }

command -v cargo > /dev/null || fail "cargo is missing: install Rust (https://rustup.rs) and put it on PATH"
command -v go > /dev/null || fail "go is missing: install Go 1.$oldest_go or newer (https://go.dev/dl) and put it on PATH"
go_version=$(cd / && GOTOOLCHAIN=local go env GOVERSION)
if [[ $go_version =~ ^go1\.([0-9]+) ]] && ((BASH_REMATCH[1] < oldest_go)); then
  fail "the local cluster and the tools of the tests are built with Go 1.$oldest_go or newer, and this is $go_version: install a newer one (https://go.dev/dl) and put it first on PATH"
fi

# Programs, not packages, decide: whoever has them from elsewhere needs no package.
packages=()
need() { # PACKAGE FILE...: one of the files is there, or the package is needed
  local package=$1 file
  shift
  for file; do
    if [[ $file == /* ]]; then [[ -e $file ]] && return; else command -v "$file" > /dev/null && return; fi
  done
  packages+=("$package")
}
PATH=$PATH:/usr/sbin:/sbin
case "${1:-cluster}" in
  cluster)
    need containerd containerd
    need runc runc
    need containernetworking-plugins /usr/lib/cni/bridge
    need conntrack conntrack
    need nftables nft
    need iproute2 ip
    need util-linux unshare
    need procps sysctl
    need prometheus prometheus
    need binutils strip
    ;;
  conformance)
    need curl curl
    need nghttp2-client h2load
    need wrk wrk
    need nodejs node
    need npm npm
    need python3 python3
    python3 -c 'import ensurepip, venv' 2> /dev/null || packages+=(python3-venv)
    compgen -G '/usr/lib/postgresql/*/bin/initdb' > /dev/null || need postgresql initdb
    need postgresql-client psql
    need redis-server redis-server
    need redis-tools redis-benchmark
    need mariadb-server mariadbd
    need mariadb-client mariadb-slap
    need util-linux setpriv
    ;;
  *) fail "unknown: $1" ;;
esac
need gcc cc gcc clang # aws-lc, the crypto library, is C
if [[ ${packages[*]} == *gcc* ]]; then packages+=(libc6-dev); fi
if ((${#packages[@]} == 0)); then exit 0; fi

command -v apt-get > /dev/null || fail "missing: ${packages[*]} (names of Debian packages); no apt-get here, so install them by hand"
[[ $(id -u) == 0 ]] || fail "missing: ${packages[*]}; installing them needs root: sudo e2e/setup.sh $*"
echo "installing ${packages[*]}"

# Debian starts the daemons of what it installs, unless this file says no.
policy=/usr/sbin/policy-rc.d
saved=
restore() {
  rm -f "$policy"
  if [[ -n $saved ]]; then mv "$saved" "$policy"; fi
}
if [[ -e $policy ]]; then
  saved=$policy.aviary-saved
  mv "$policy" "$saved"
fi
trap restore EXIT
trap 'exit 130' INT TERM
printf '#!/bin/sh\nexit 101\n' > "$policy"
chmod 755 "$policy"

log=$(mktemp)
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get -q update && apt-get -qy install --no-install-recommends "${packages[@]}"; } > "$log" 2>&1; then
  tail -n 20 "$log" >&2
  fail "apt-get failed (its whole output is in $log)"
fi
rm -f "$log"
