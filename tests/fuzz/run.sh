#!/usr/bin/env bash
# Fuzzes what reads files of others and what moves bytes, with libFuzzer, ASan and UBSan, against models in RAM.
#
#   tests/fuzz/run.sh                      6 seconds each target (the test of CTest, label fuzz)
#   tests/fuzz/run.sh 3600                 an hour each
#   tests/fuzz/run.sh 600 requests config  ten minutes each of these two
#
# What each target checks stands at the top of its source. SPILLWAY_TEST_SEED sets the seed. Runs of a minute and more
# keep inputs that reach new code in build/fuzz/corpus/TARGET, and start from them. A finding stops its target; its
# input is kept in build/fuzz/findings, and the command that runs it again is printed. Exit code: 1 after a finding,
# 77 without clang.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly seconds=${1:-6} build=build/fuzz seed=${SPILLWAY_TEST_SEED:-$RANDOM}
shift $(($# > 0 ? 1 : 0))
targets=("$@")
readers=(config gpt_config token_file safetensors checkpoint_manifest lock_journal memory_limits saved_manifest
         stripe_manifest bench_files)
[ ${#targets[@]} -gt 0 ] || targets=("${readers[@]}" requests tile_store)

skip() { printf 'skipped: %s\n' "$*"; exit 77; }
command -v clang++ > /dev/null || skip "fuzzing needs clang (apt-get install clang libclang-rt-dev)"
[ -e "$(clang++ -print-file-name=libclang_rt.fuzzer-x86_64.a)" ] ||
  skip "this clang has no libFuzzer (apt-get install libclang-rt-dev)"

if ! { cmake -S . -B $build -G Ninja -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS=-g1 \
         -DCMAKE_CXX_FLAGS_RELEASE=-O1 -DSPILLWAY_SANITIZE=address,undefined,fuzzer-no-link -DSPILLWAY_TRAINER=BASE \
         -DSPILLWAY_TOOLS=ON -DSPILLWAY_LIBRARIES=static -DSPILLWAY_BENCH=OFF &&
       cmake --build $build --target fuzz_targets; } \
     > $build.log 2>&1; then
  tail -40 $build.log
  exit 1
fi
export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1
# Requests go to a real filesystem, with its alignments. Readers need none, and in memory they run ten times as often.
disk=$PWD/$build/files memory=$PWD/$build/files
[ ! -w /dev/shm ] || memory=$(mktemp -d /dev/shm/spillway-fuzz.XXXXXX)
rm -rf $build/corpus.short
mkdir -p "$disk" $build/findings
trap 'rm -rf "$disk" "$memory"' EXIT
python3 -B tests/fuzz/seeds.py $build/seeds

# fuzz TARGET: one line when all is well, the report and the reproducer otherwise.
fuzz() {
  local target=$1 log=$build/$1.log corpus=$build/corpus/$1 options=(-max_len=4096) dictionary=$build/seeds/$1.dict
  local files=$memory
  [ "$target" != requests ] || files=$disk
  [ "$seconds" -ge 60 ] || corpus=$build/corpus.short/$1
  [ ! -e "$dictionary" ] || options+=("-dict=$dictionary")
  mkdir -p "$corpus"
  if TMPDIR=$files $build/bin/fuzz_"$target" -max_total_time="$seconds" -seed="$seed" -timeout=60 -rss_limit_mb=2048 \
       -artifact_prefix="$build/findings/$target-" -print_final_stats=1 "${options[@]}" \
       "$corpus" "$build/seeds/$target" > "$log" 2>&1; then
    printf 'fuzz: %-19s %9s inputs, nothing found (seed %s)\n' "$target" \
      "$(sed -n 's/^stat::number_of_executed_units: //p' "$log")" "$seed"
    return
  fi
  grep -v -e '^#[0-9]' -e 'NEW_FUNC' -e '^INFO' "$log" | head -60
  local input
  input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -1)
  printf 'fuzz: %s: FOUND something (seed %s)\n  reproducer: %s\n' "$target" "$seed" "${input:-none written}"
  printf '  run again:  mkdir -p %s && TMPDIR=%s %s %s\n' $build/files $build/files "$build/bin/fuzz_$target" "$input"
  return 1
}

# As many at a time as there are cores.
failed=0 running=0
for target in "${targets[@]}"; do
  fuzz "$target" &
  running=$((running + 1))
  if [ $running -ge "$(nproc)" ]; then
    wait -n || failed=1
    running=$((running - 1))
  fi
done
while [ $running -gt 0 ]; do
  wait -n || failed=1
  running=$((running - 1))
done
exit $failed
