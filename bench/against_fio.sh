#!/usr/bin/env bash
# against_fio.sh [--full] [DIRECTORY]: every comparison with fio, as one Markdown document on standard output: the
# engine on DIRECTORY's disk (default: here), and, as root, on a loop device with direct I/O over memory, which is
# a fast and quiet disk. As root it also reserves huge pages for both contenders, and gives them back.
#
#   bench/against_fio.sh /mnt/nvme0 > bench/results/engine_vs_fio.md       about 6 minutes; --full: half an hour
#
# SPILLWAY_BUILD: the build folder (default build/release).
set -euo pipefail
source=$(realpath "$(dirname "$0")/..")
build=${SPILLWAY_BUILD:-$source/build/release}
full=()
if [ "${1:-}" = --full ]; then
  full=(--full)
  shift
fi
directory=${1:-.}
readonly size_mib=1024
readonly huge_pages=320  # of 2 MiB: 256 MiB of requests, fio's buffers, room to spare

fail() { echo "against_fio.sh: $*" >&2; exit 1; }
[ -x "$build/bin/engine_vs_fio" ] || fail "no $build/bin/engine_vs_fio: build first, or set SPILLWAY_BUILD"
[ -d "$directory" ] || fail "$directory is no directory"
command -v fio > /dev/null || fail "no fio: apt install fio"

work='' loop='' pages_before=''
# The kernel may hold a file for a moment after the program that had it in a ring has ended.
patiently() {
  local try
  for try in 1 2 3 4 5 6 7 8 9 10; do
    ! "$@" 2> /dev/null || return 0
    sleep 0.$try
  done
  "$@"
}
clean_up() {
  if [ -n "$work" ]; then
    ! mountpoint -q "$work/disk" || patiently umount "$work/disk"
    [ -z "$loop" ] || patiently losetup -d "$loop"
    ! mountpoint -q "$work/memory" || patiently umount "$work/memory"
    rmdir "$work/memory" "$work/disk" "$work"
  fi
  [ -z "$pages_before" ] || echo "$pages_before" > /proc/sys/vm/nr_hugepages
}
trap clean_up EXIT

# A filesystem on a loop device with direct I/O over a file in memory: $work/disk.
make_loop_disk() {
  work=$(mktemp -d)
  mkdir "$work/memory" "$work/disk"
  mount -t tmpfs -o size=$((size_mib * 3 / 2))m tmpfs "$work/memory"
  truncate -s $((size_mib * 5 / 4))M "$work/memory/image"
  loop=$(losetup --find --show --direct-io=on "$work/memory/image")
  mkfs.ext4 -q -E nodiscard "$loop"
  mount "$loop" "$work/disk"
}

if [ "$(id -u)" -eq 0 ]; then
  pages_before=$(cat /proc/sys/vm/nr_hugepages)
  [ "$pages_before" -ge $huge_pages ] || echo $huge_pages > /proc/sys/vm/nr_hugepages
fi
echo '# The engine against fio'
echo
"$build/bin/engine_vs_fio" "${full[@]}" --size-mib $size_mib --label 'On the disk' "$directory"
if [ "$(id -u)" -ne 0 ]; then
  echo 'The loop device over memory needs root: left out.'
else
  make_loop_disk
  "$build/bin/engine_vs_fio" "${full[@]}" --size-mib $size_mib \
    --label 'On a loop device with direct I/O over memory' "$work/disk"
fi
