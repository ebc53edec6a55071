#!/usr/bin/env bash
# Builds the engine with sanitizers in a temporary folder and runs tests under them.
#   tools/sanitize.sh [pytest arguments]                    addresses and undefined behaviour; default: all of tests/
#   SANITIZE=thread tools/sanitize.sh [pytest arguments]    data races; default: the tests that have threads
# PYTHON names an interpreter that has the [test] extra and the build requirements (pybind11, cmake, ninja);
# ISAS names the instruction sets to build, separated by ";": default "generic" and the best that this processor has
# (data races: one that is quick to build, as no kernel makes threads).
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
sanitize=${SANITIZE:-address}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

has() { grep -qw "$1" /proc/cpuinfo; }
case $sanitize in
  address)
    if has avx512vl; then isas="generic;avx512"; elif has avx2; then isas="generic;avx2"; else isas=generic; fi
    runtime=libasan.so
    tests=()
    ;;
  thread)
    if has avx2; then isas=avx2; else isas=generic; fi
    runtime=libtsan.so
    fixed="setarch $(uname -m) --addr-no-randomize"
    tests=(tests/comm tests/plan/test_session.py tests/plan/test_session_limits.py tests/plan/test_buckets.py tests/sweep
      tests/bits/test_ranks_and_threads.py)
    ;;
  *) echo "SANITIZE is $sanitize, expected address or thread" >&2; exit 2 ;;
esac

cmake -S . -B "$folder/build" -G Ninja -DTHALWEG_SANITIZE="$sanitize" -DTHALWEG_ISAS="${ISAS:-$isas}" \
  -DPython_EXECUTABLE="$(command -v "$python")" -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" \
  -DSKBUILD_PROJECT_VERSION="$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)"
cmake --build "$folder/build"
mkdir -p "$folder/site/thalweg"
cp -r python/thalweg/. "$folder/site/thalweg/"
cp -r python/thalweg_command "$folder/site/"
rm -f "$folder"/site/thalweg/*.so  # of a development tree
cmake --install "$folder/build" --prefix "$folder/site"

# The sanitizers' runtime must be loaded before Python. Python's own allocator hides errors, and what the interpreter
# keeps until its end is no leak of ours.
export LD_PRELOAD="$(gcc -print-file-name=$runtime) $(gcc -print-file-name=libstdc++.so)"
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:abort_on_error=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export TSAN_OPTIONS="halt_on_error=1:report_signal_unsafe=0:suppressions=$PWD/tools/thread.supp"
export PYTHONMALLOC=malloc PYTHONPATH="$folder/site" PYTHONDONTWRITEBYTECODE=1 THALWEG_SANITIZED=$sanitize
# -s: a finding ends the process, and with it what pytest would have captured.
# Thread: of the 1.5 TB that may hold data there, random addresses would cost up to 1; ranks share 16 GB each.
run() { ${fixed-} "$python" -m pytest -s -p no:cacheprovider --timeout=1800 "$@"; }
chosen=$#
[ "$chosen" != 0 ] || set -- "${tests[@]}"
run "$@"
if [ "$sanitize" = thread ] && [ "$chosen" = 0 ]; then  # once more with gradients that are exchanged after all else
  THALWEG_OVERLAP=off run tests/plan/test_buckets.py tests/bits/test_ranks_and_threads.py
fi
