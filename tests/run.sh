#!/usr/bin/env bash
# Installs what is missing, builds, and tests. Ends with one line, "N passed, N failed, N skipped" (GoogleTest cases
# counted one by one), and a non-zero code when anything failed.
#
#   tests/run.sh           every test that this machine allows, then those of the lower layers under two sanitizers
#   tests/run.sh --quick   unit tests, but for slow ones, and house rules of the release build: under 4 minutes if
#                          little has changed
#   tests/run.sh NAME      one test, and builds only what it needs: a test of CTest (e2e/kill_test/test_kills), the
#                          part of its name before a slash (style), or a GoogleTest program, suite or Suite.Case
#   tests/run.sh --help    these lines
#
# What was built and said is in build/: build/test-results holds a log of each stage, and JUnit files of the tests.
set -euo pipefail

readonly here=${BASH_SOURCE[0]}
refuse() { printf 'tests/run.sh: %s (see tests/run.sh --help)\n' "$*" >&2; exit 2; }
[ $# -le 1 ] || refuse "one argument at most, not $#: $*"
what=${1---all}
case $what in
  --help | -h) sed -n '2,/^set /{/^#/s/^# \?//p}' "$here"; exit ;;
  --all | --quick) ;;
  -*) refuse "there is no option $what" ;;
  '') refuse "the name of a test is empty" ;;
esac
cd "$(dirname "$here")/.."

# One test: what is installed is there, or the build would not be.
if [[ $what == --* ]] || [ ! -e build/environment ]; then
  tools/setup.sh
fi
. build/environment

readonly results=build/test-results
rm -rf $results
mkdir -p $results
broken=()  # stages that did not come to the point of testing

# stage NAME COMMAND...: its output is shown when it fails, its time is kept.
stage() {
  local name=$1 start=$SECONDS
  shift
  if "$@" > "$results/$name.log" 2>&1; then
    printf 'run: %s: %s s\n' "$name" $((SECONDS - start))
    printf '%s %s\n' $((SECONDS - start)) "$name" >> $results/stages
  else
    tail -60 "$results/$name.log"
    printf 'run: %s failed\n' "$name"
    broken+=("$name")
    return 1
  fi
}

# configure PRESET: a build that is configured keeps itself up to date.
configure() {
  local options=()
  [ "$1" != release ] || options=(-DSPILLWAY_TORCH="$SPILLWAY_TORCH" -DSPILLWAY_CUDA="$SPILLWAY_CUDA")
  stage "configure-$1" cmake --preset "$1" "${options[@]}"
}

# run_ctest PRESET [CTEST ARGUMENT...]
run_ctest() {
  local preset=$1 start=$SECONDS around=()
  shift
  # gcc 12's ThreadSanitizer wants addresses less random than newer kernels make them.
  if [ "$preset" = tsan ] && setarch "$(uname -m)" -R true 2> /dev/null; then
    around=(setarch "$(uname -m)" -R)
  fi
  "${around[@]}" ctest --preset "$preset" --output-junit "$PWD/$results/$preset.xml" \
    --test-output-size-passed 1048576 --test-output-size-failed 1048576 "$@" || true
  printf '%s %s\n' $((SECONDS - start)) "test-$preset" >> $results/stages
}

# test_preset PRESET [CTEST ARGUMENT...]: configures, builds and tests.
test_preset() {
  configure "$1" || return 0
  stage "build-$1" cmake --build --preset "$1" || return 0
  run_ctest "$@"
}

test_one() {
  local found lines
  [ -e build/release/build.ninja ] || configure release || return 0
  found=$(python3 -B tests/find_test.py build/release "$1") || exit 2
  mapfile -t lines <<< "$found"  # targets, CTest's expression, GoogleTest's
  # shellcheck disable=SC2086  # targets, one word each
  [ -z "${lines[0]}" ] || stage build-release cmake --build --preset release --target ${lines[0]} || return 0
  [ -z "${lines[2]:-}" ] || export GTEST_FILTER=${lines[2]}
  run_ctest release -R "${lines[1]}"
}

case $what in
  --all)
    test_preset release
    test_preset asan
    test_preset tsan
    ;;
  --quick) test_preset release -L 'unit|style' -LE slow ;;
  *) test_one "$what" ;;
esac
printf 'run: %s s in all\n' $SECONDS
python3 -B tests/summary.py --broken "${broken[*]}" $results
