#!/usr/bin/env bash
# From nothing to a model that trains on Shakespeare with its parameters and optimizer states on NVMe: installs what is
# missing, builds, trains for a minute or two on the CPU, and shows what it learnt and what moved.
#
#   SPILLWAY_NVME_PATH=/mnt/nvme0 tools/demo.sh     the states go there (default: build/demo/nvme)
set -euo pipefail
cd "$(dirname "$0")/.."

readonly steps=500 demo=build/demo
nvme=${SPILLWAY_NVME_PATH:-$demo/nvme}

fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }

mkdir -p "$nvme" || fail "cannot make $nvme"
case "$(stat -f -c %T "$nvme")" in
  tmpfs | ramfs) fail "$nvme is memory, not a disk: set SPILLWAY_NVME_PATH to a directory on one" ;;
esac

tools/setup.sh
. build/environment

printf 'demo: building (build/release)\n'
build() {
  cmake --preset release -DSPILLWAY_TORCH="$SPILLWAY_TORCH" -DSPILLWAY_CUDA="$SPILLWAY_CUDA" &&
    cmake --build --preset release --target spillway
}
mkdir -p "$demo"
build > "$demo/build.log" 2>&1 || { tail -40 "$demo/build.log" >&2; fail "the build failed: $demo/build.log"; }

python3 tools/demo/plays_text.py "$SPILLWAY_PLAYS" "$demo/train.txt" "$demo/held-out.txt"
entropy=$(python3 tools/demo/bigram_entropy.py "$demo/held-out.txt")
printf 'demo: %s bytes of plays to train on, %s held out (bigram entropy %s nats a byte)\n' \
  "$(stat -c %s "$demo/train.txt")" "$(stat -c %s "$demo/held-out.txt")" "$entropy"

train=(build/release/bin/spillway train --model gpt-lite-small --config tools/demo/nvme.json
  --data "$demo/train.txt" --eval-data "$demo/held-out.txt" --eval-every 25 --steps $steps --seed 1 --device cpu)
on_nvme=(--set zero_optimization.offload_param.nvme_path="$nvme"
  --set zero_optimization.offload_optimizer.nvme_path="$nvme")
in_memory=(--set zero_optimization.offload_param.device=none --set zero_optimization.offload_optimizer.device=none)
rm -f "$demo/nvme.jsonl"
"${train[@]}" "${on_nvme[@]}" --metrics "$demo/nvme.jsonl" --sample 400

python3 tools/demo/loss_svg.py "$demo/nvme.jsonl" "$demo/loss.svg" --level "$entropy" "bigram entropy" \
  --title "Shakespeare, streamed from NVMe"
python3 tools/demo/verdict.py "$demo/nvme.jsonl" "$entropy"
printf 'demo: loss curve: %s\n' "$demo/loss.svg"
printf 'demo: the same with everything in memory, and the same losses to the last bit:\n  %s\n' \
  "${train[*]} ${in_memory[*]} --metrics $demo/memory.jsonl"
