#!/usr/bin/env bash
# install.sh: installs the pinned clients and servers of `make conformance` into the user's cache, once per set of pins, and prints
# where they are.
set -euo pipefail
cd "$(dirname "$0")"

pins=(go.mod go.sum requirements.txt package.json package-lock.json install.sh)
key=$({ go version; python3 --version; node --version; cat "${pins[@]}"; } | sha256sum | cut -c 1-16)
cache=${XDG_CACHE_HOME:-}
if [[ $cache != /* ]]; then cache=${HOME:?is not set, nor XDG_CACHE_HOME}/.cache; fi
tools=$cache/aviary/conformance-$key

mkdir -p "$cache/aviary"
exec 9> "$cache/aviary/conformance.lock"
flock 9
if [[ ! -e $tools/complete ]]; then
  rm -rf "$tools"
  mkdir -p "$tools"
  {
    echo "building h2spec and gRPC's interop client and server (minutes the first time)"
    GOBIN=$tools/bin GOWORK=off GOFLAGS=-mod=readonly go install tool
    echo "installing grpcio and httpx"
    python3 -m venv "$tools/python"
    "$tools/python/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: -r requirements.txt
    "$tools/python/bin/python" -m pip check
    echo "installing ws"
    cp package.json package-lock.json "$tools/"
    npm ci --prefix "$tools" --no-audit --no-fund --silent
  } >&2
  touch "$tools/complete"
fi
echo "$tools"
