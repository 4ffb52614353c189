#!/usr/bin/env bash
# examples_test.sh PREFIX FOLDER: builds the examples, each a project of its own, in FOLDER/<name> against the Spillway
# installed in PREFIX (install_test.sh makes one). Their warnings are errors here: people copy from them.
set -euo pipefail
prefix=$(realpath "$1")
source=$(realpath "$(dirname "$0")/../../examples")
mkdir -p "$2"
work=$(realpath "$2")
unset SPILLWAY_TORCH CMAKE_PREFIX_PATH

for example in fast_copy stream_dataset kv_cache; do
  log=$work/$example.log
  if ! { cmake -S "$source/$example" -B "$work/$example" -G Ninja -DCMAKE_PREFIX_PATH="$prefix" \
           -DCMAKE_CXX_FLAGS="-Wall -Wextra -Werror" && cmake --build "$work/$example"; } > "$log" 2>&1; then
    tail -40 "$log" >&2
    echo "examples_test: $example does not build" >&2
    exit 1
  fi
done
