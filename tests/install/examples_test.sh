#!/usr/bin/env bash
# examples_test.sh PREFIX FOLDER: builds the examples, each a project of its own, in FOLDER/<name> against the Spillway
# installed in PREFIX (install_test.sh makes one), and so the program that docs/embedding.md shows. Their warnings are
# errors here: people copy from them.
set -euo pipefail
prefix=$(realpath "$1")
source=$(realpath "$(dirname "$0")/../../examples")
mkdir -p "$2"
work=$(realpath "$2")
python3 -B "$(dirname "$0")/../docs/snippets.py" project "$work/guide/hello"
unset SPILLWAY_TORCH CMAKE_PREFIX_PATH
if command -v ccache > /dev/null; then  # as for our own targets: see cmake/SpillwayTarget.cmake
  export CMAKE_CXX_COMPILER_LAUNCHER=ccache CCACHE_NOHASHDIR=1 CCACHE_BASEDIR=${source%/*}
fi

for example in "$source"/{fast_copy,stream_dataset,kv_cache,kv_spill} "$work/guide/hello"; do
  name=$(basename "$example")
  log=$work/$name.log
  if ! { cmake -S "$example" -B "$work/$name" -G Ninja -DCMAKE_PREFIX_PATH="$prefix" \
           -DCMAKE_CXX_FLAGS="-Wall -Wextra -Werror" && cmake --build "$work/$name"; } > "$log" 2>&1; then
    tail -40 "$log" >&2
    echo "examples_test: $name does not build" >&2
    exit 1
  fi
done
said=$("$work/hello/hello" "$work/hello.bin")
[[ $said == "hello, disk (spillway "* ]] || { echo "examples_test: the guide's program says: $said" >&2; exit 1; }
