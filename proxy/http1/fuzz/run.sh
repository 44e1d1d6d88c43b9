#!/usr/bin/env bash
# libFuzzer on the toolchain that builds everything else: it needs counters in the code, which any rustc puts there, and no sanitizer, since the
# crate has no unsafe code. Usage: run.sh MINUTES
set -euo pipefail
cd "$(dirname "$0")"
seconds=$((${1:-10} * 60 / 2))
target=$(rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module"
for what in level=4 inline-8bit-counters pc-table trace-compares; do
  RUSTFLAGS+=" -Cllvm-args=-sanitizer-coverage-$what"
done
export CARGO_TARGET_DIR=${FUZZ_TARGET_DIR:-$PWD/../../../target/fuzz}
cargo build --quiet --jobs 1 --release --locked --target "$target"
for name in requests answers; do
  found=$CARGO_TARGET_DIR/$name
  mkdir -p "$found/corpus" "$found/findings"
  log=$found/log
  "$CARGO_TARGET_DIR/$target/release/$name" "$found/corpus" "corpus/$name" ../tests/corpus \
    -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=1024 -dict=http1.dict \
    -artifact_prefix="$found/findings/" -print_final_stats=1 > "$log" 2>&1 || status=$?
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  echo "$name: ${executions:-unknown} executions, $(find "$found/findings" -type f | wc -l) findings, $(find "$found/corpus" -type f | wc -l) new inputs"
  if [[ ${status:-0} != 0 ]]; then
    echo "what it said is in $log, the bytes are in $found/findings"
    exit 1
  fi
done
