#!/usr/bin/env bash
# install_test.sh static|shared FOLDER: builds the lower layers without torch, installs them, moves the installation,
# and builds and runs examples/downstream against it: by find_package and by pkg-config.
set -euo pipefail
kind=$1
mkdir -p "$2"
work=$(realpath "$2")
source=$(realpath "$(dirname "$0")/../..")
unset SPILLWAY_TORCH CMAKE_PREFIX_PATH

fail() { echo "install_test: $*" >&2; exit 1; }
quietly() { "$@" > "$work/log" 2>&1 || { tail -40 "$work/log" >&2; fail "failed: $*"; }; }

rm -rf "${work:?}/first" "$work/prefix" "$work/downstream"
quietly cmake -S "$source" -B "$work/spillway" -G Ninja -DCMAKE_BUILD_TYPE=Release -DSPILLWAY_LIBRARIES=$kind \
  -DSPILLWAY_TRAINER=OFF -DSPILLWAY_TESTS=OFF -DSPILLWAY_BENCH=OFF -DSPILLWAY_TOOLS=OFF \
  -DCMAKE_INSTALL_PREFIX="$work/first"
quietly cmake --build "$work/spillway"
quietly cmake --install "$work/spillway"
# Nothing installed may point to where it was built or first installed.
mv "$work/first" "$work/prefix"
if grep -rlE "$work/(first|spillway)|$source" "$work/prefix" --include='*.cmake' --include='*.pc' --include='*.h'; then
  fail "the installation names its source or build folder"
fi

run() {
  mkdir -p "$work/data"
  "$@" "$work/data" || fail "$1 failed"
  [ -z "$(ls -A "$work/data")" ] || fail "$1 left files behind: $(ls "$work/data")"
  ! ldd "$1" | grep -iE 'torch|libcuda|not found' || fail "$1 is linked with what it must not be"
}

quietly cmake -S "$source/examples/downstream" -B "$work/downstream" -G Ninja -DCMAKE_PREFIX_PATH="$work/prefix"
quietly cmake --build "$work/downstream"
run "$work/downstream/downstream"

export PKG_CONFIG_PATH="$work/prefix/lib/pkgconfig:$work/prefix/lib/$(gcc -print-multiarch)/pkgconfig"
# shellcheck disable=SC2046  # flags, one word each
quietly "${CXX:-c++}" -std=c++20 "$source/examples/downstream/main.cc" -o "$work/by_pkg_config" \
  $(pkg-config --cflags --libs spillway) "-Wl,-rpath,$(pkg-config --variable=libdir spillway)"
run "$work/by_pkg_config"
