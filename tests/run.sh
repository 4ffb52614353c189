#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test that this machine allows. Ends with one line,
# "N passed, N failed, N skipped" (GoogleTest cases counted one by one), and a non-zero code when anything failed.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/setup.sh
. build/environment

results=build/test-results
rm -rf $results
mkdir -p $results
broken=()  # stages that did not come to the point of testing

# stage NAME COMMAND...: its output is shown when it fails.
stage() {
  local name=$1 start=$SECONDS
  shift
  if "$@" > "$results/$name.log" 2>&1; then
    printf 'run: %s: %s s\n' "$name" $((SECONDS - start))
  else
    tail -60 "$results/$name.log"
    printf 'run: %s failed\n' "$name"
    broken+=("$name")
    return 1
  fi
}

# test_preset PRESET [CMAKE ARGUMENT...]: configures, builds and tests.
test_preset() {
  local preset=$1 around=()
  shift
  # gcc 12's ThreadSanitizer wants addresses less random than newer kernels make them.
  if [ "$preset" = tsan ] && setarch "$(uname -m)" -R true 2> /dev/null; then
    around=(setarch "$(uname -m)" -R)
  fi
  stage "configure-$preset" cmake --preset "$preset" "$@" || return 0
  stage "build-$preset" cmake --build --preset "$preset" || return 0
  "${around[@]}" ctest --preset "$preset" --output-junit "$PWD/$results/$preset.xml" \
    --test-output-size-passed 1048576 --test-output-size-failed 1048576 || true
}

test_preset release -DSPILLWAY_TORCH="$SPILLWAY_TORCH" -DSPILLWAY_CUDA="$SPILLWAY_CUDA"
test_preset asan
test_preset tsan
printf 'run: %s s in all\n' $SECONDS
python3 tests/summary.py --broken "${broken[*]}" $results
