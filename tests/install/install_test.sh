#!/usr/bin/env bash
# install_test.sh static|shared FOLDER: builds the lower layers without torch, installs them, moves the installation,
# and builds and runs examples against it, by find_package and by pkg-config: examples/downstream (C++), copy_in_c,
# stream_in_c, and with the shared libraries python_ctypes.
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
  $(pkg-config --cflags --libs spillway)
run "$work/by_pkg_config"
# shellcheck disable=SC2046
quietly "${CXX:-c++}" -std=c++20 "$source/examples/downstream/main.cc" -o "$work/by_pkg_config_static" \
  $(pkg-config --static --cflags --libs spillway)
run "$work/by_pkg_config_static"

copies() {
  rm -f "$work/copied"
  "$1" "$source/LICENSE" "$work/copied" || fail "$1 failed"
  cmp "$source/LICENSE" "$work/copied" || fail "$1 copied other bytes"
  ! "$1" "$work/nowhere" "$work/other" 2> "$work/error" || fail "$1 copies a file that does not exist"
  grep -q "$work/nowhere" "$work/error" || fail "$1 does not say which file: $(cat "$work/error")"
  head -c 50000001 /dev/urandom > "$work/large"
  rm "$work/copied"
  "$1" "$work/large" "$work/copied" && cmp "$work/large" "$work/copied" || fail "$1 copied other bytes"
  rm "$work/large" "$work/copied"
}

quietly cmake -S "$source/examples/copy_in_c" -B "$work/copy_in_c" -G Ninja -DCMAKE_PREFIX_PATH="$work/prefix" \
  -DCMAKE_C_FLAGS="-Wall -Wextra -pedantic -Werror"
quietly cmake --build "$work/copy_in_c"
copies "$work/copy_in_c/copy_in_c"
# shellcheck disable=SC2046
quietly "${CC:-cc}" -std=c11 -Wall -Wextra -pedantic -Werror "$source/examples/copy_in_c/copy_in_c.c" \
  -o "$work/copy_by_pkg_config" \
  $(pkg-config --cflags --libs spillway-c)
copies "$work/copy_by_pkg_config"

quietly cmake -S "$source/examples/stream_in_c" -B "$work/stream_in_c" -G Ninja -DCMAKE_PREFIX_PATH="$work/prefix" \
  -DCMAKE_C_FLAGS="-Wall -Wextra -pedantic -Werror"
quietly cmake --build "$work/stream_in_c"
mkdir -p "$work/data"
"$work/stream_in_c/stream_in_c" "$work/data" 20 > "$work/log" || fail "stream_in_c failed: $(cat "$work/log")"
grep -q "20 million squares through 32 MiB: 0 wrong" "$work/log" || fail "stream_in_c: $(cat "$work/log")"
[ -z "$(ls -A "$work/data")" ] || fail "stream_in_c left files behind"
! "$work/stream_in_c/stream_in_c" "$work/nowhere" 2> "$work/error" || fail "stream_in_c runs where there is nothing"
grep -q "$work/nowhere" "$work/error" || fail "stream_in_c does not say where: $(cat "$work/error")"

# What is not there is refused with its name.
refuses() {
  printf '%s\n' "cmake_minimum_required(VERSION 3.25)" "project(refused LANGUAGES C CXX)" \
    "find_package(spillway CONFIG REQUIRED COMPONENTS $1)" > "$work/refused/CMakeLists.txt"
  ! cmake -S "$work/refused" -B "$work/refused/build" -DCMAKE_PREFIX_PATH="$work/prefix" > "$work/log" 2>&1 ||
    fail "find_package takes the component(s) $1"
  tr -s ' \n' ' ' < "$work/log" | grep -q "$2" || { cat "$work/log"; fail "$1: find_package does not say: $2"; }
}
mkdir -p "$work/refused"
refuses nonsense "there is no component 'nonsense'"
refuses trainer "trainer was not installed"
refuses "static shared" "exclude each other"
if [ "$kind" = static ]; then
  refuses shared "the shared libraries were not installed"
else
  refuses static "the static libraries were not installed"
  mkdir -p "$work/data"
  python3 -B "$source/examples/python_ctypes/spillway_ctypes.py" "$(find "$work/prefix" -name libspillway_c.so)" \
    "$work/data" > "$work/log" || fail "python_ctypes failed"
  grep -q "all bytes came back" "$work/log" || fail "python_ctypes: $(cat "$work/log")"
  [ -z "$(ls -A "$work/data")" ] || fail "python_ctypes left files behind"
fi
