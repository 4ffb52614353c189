#!/usr/bin/env bash
# copy_vs_cp.sh FAST_COPY DIRECTORY [MIB [PAIRS]]: examples/fast_copy against cp, in turn, on a file of 2048 MiB that
# does not compress. The source is not in the page cache; both end when the copy is on the disk (cp is followed by
# `sync --data`, fast_copy does it itself). Prints every repetition, the CPU seconds, and the medians.
set -euo pipefail
copy=$(realpath "$1") directory=$(realpath "$2") mib=${3:-2048} pairs=${4:-5}
work=$(mktemp -d "$directory/copy_vs_cp.XXXXXX")
trap 'rm -rf "$work"' EXIT
source=$work/source

head -c "${mib}M" /dev/urandom > "$source"
echo "$(uname -r), $(nproc) cores, $(df --output=fstype,source "$directory" | tail -1), $mib MiB"

# timed NAME COMMAND...: appends "seconds cpu-seconds" to the file NAME.
timed() {
  local name=$1
  shift
  rm -f "$work/target"
  dd if="$source" iflag=nocache count=0 status=none  # drops the source from the page cache
  sync
  local TIMEFORMAT='%R %U %S'
  { time "$@" > /dev/null; } 2> "$work/time"
  awk '{ print $1, $2 + $3 }' "$work/time" | tee -a "$work/$name" | sed "s/^/$name: /"
  cmp "$source" "$work/target"
}
cp_and_sync() { cp "$source" "$work/target" && sync --data "$work/target"; }

for ((pair = 0; pair < pairs; ++pair)); do
  timed cp cp_and_sync
  timed fast_copy "$copy" "$source" "$work/target"
done
median() { sort -n -k "$2" "$work/$1" | awk -v n="$2" '{ v[NR] = $n } END { print v[int((NR + 1) / 2)] }'; }
awk -v a="$(median cp 1)" -v b="$(median fast_copy 1)" -v c="$(median cp 2)" -v d="$(median fast_copy 2)" 'BEGIN {
  printf "median: cp %.2f s (CPU %.2f), fast_copy %.2f s (CPU %.2f): %.2f times as fast, %.2f of the CPU time\n",
         a, c, b, d, a / b, d / c }'
