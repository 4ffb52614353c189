#!/usr/bin/env bash
# reference.sh FOLDER VERSION: builds the reference of the public headers in FOLDER/html.
# Fails on any warning of Doxygen, and when nothing is said about a class or a function. Ends with 77 without Doxygen.
set -euo pipefail
mkdir -p "$1"
folder=$(realpath "$1") version=$2
cd "$(dirname "${BASH_SOURCE[0]}")"
command -v doxygen > /dev/null || { echo "skipped: there is no doxygen"; exit 77; }

headers=()
for include in "$PWD"/../*/include; do
  headers+=("$(realpath "$include")")
done
rm -rf "$folder/html" "$folder/xml"
doxygen - << END
@INCLUDE            = Doxyfile
PROJECT_NUMBER      = $version
OUTPUT_DIRECTORY    = "$folder"
INPUT               = reference.md $(printf '"%s" ' "${headers[@]}")
STRIP_FROM_PATH     = $(printf '"%s" ' "${headers[@]}")
STRIP_FROM_INC_PATH = $(printf '"%s" ' "${headers[@]}")
END
python3 -B undocumented.py "$folder/xml"
