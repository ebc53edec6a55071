#!/usr/bin/env bash
# Builds the engine with the address and undefined-behaviour sanitizers in a temporary folder and runs tests under them.
#   tools/sanitize.sh [pytest arguments]        default: all of tests/
# PYTHON names an interpreter that has the [test] extra and the build requirements (pybind11, cmake, ninja);
# ISAS names the instruction sets to build, separated by ";": default "generic" and the best that this processor has.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

best_isa() {
  if grep -qw avx512vl /proc/cpuinfo; then echo "generic;avx512"; elif grep -qw avx2 /proc/cpuinfo; then echo "generic;avx2"; else echo generic; fi
}

cmake -S . -B "$folder/build" -G Ninja -DTHALWEG_SANITIZE=ON -DTHALWEG_ISAS="${ISAS:-$(best_isa)}" \
  -DPython_EXECUTABLE="$(command -v "$python")" -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" \
  -DSKBUILD_PROJECT_VERSION="$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)"
cmake --build "$folder/build"
mkdir -p "$folder/site/thalweg"
cp -r python/thalweg/. "$folder/site/thalweg/"
cp -r python/thalweg_command "$folder/site/"
cmake --install "$folder/build" --prefix "$folder/site"  # after the copy: a development tree holds libraries too

# The sanitizers' runtime must be loaded before Python. Python's own allocator hides errors, and what the interpreter
# keeps until its end is no leak of ours.
export LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libstdc++.so)"
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:abort_on_error=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export PYTHONMALLOC=malloc PYTHONPATH="$folder/site" PYTHONDONTWRITEBYTECODE=1 THALWEG_SANITIZED=1
# -s: a finding ends the process, and with it what pytest would have captured.
"$python" -m pytest -s -p no:cacheprovider --timeout=1800 "$@"
