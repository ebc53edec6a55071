#!/usr/bin/env bash
# Builds the engine, the CUDA plug-in and the benchmark with what the machine has (no network), and runs the tests on the
# GPU and the benchmark. Needs nvcc, a C++20 compiler, cmake, ninja, and a Python with numpy, pybind11 and pytest.
#   tests/gpu/run.sh [pytest arguments]
# PYTHON names the interpreter; BUILD the folder to build in (default: a temporary one); OUT one for the logs.
set -euo pipefail
cd "$(dirname "$0")/../.."

python=$(command -v "${PYTHON:-python3}")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
build=${BUILD:-$folder/build}
out=${OUT:-$folder}
say() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }

best_isa() {
  if grep -qw avx512vl /proc/cpuinfo; then echo avx512; elif grep -qw avx2 /proc/cpuinfo; then echo avx2; else echo generic; fi
}

say "build"
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null || true
"$python" --version
cmake -S . -B "$build" -G Ninja -DTHALWEG_CUDA=ON -DTHALWEG_BENCH=ON -DTHALWEG_ISAS="${ISAS:-$(best_isa)}" \
  -DPython_EXECUTABLE="$python" -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" \
  -DSKBUILD_PROJECT_VERSION="$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)" >"$out/configure.log" 2>&1 ||
  { tail -50 "$out/configure.log"; exit 1; }
cmake --build "$build" --target _core bench_gpu >"$out/build.log" 2>&1 ||
  { grep -E 'FAILED|error|Error' "$out/build.log" | head -50; exit 1; }
grep 'compiler identification' "$out/configure.log" || true

say "machine code"
status=0
tools/contraction.sh "$build/cuda/_cuda.so" "$build/cpp/bench_gpu" || status=1

say "tests"
mkdir -p "$folder/site/thalweg"
cp -r python/thalweg/. "$folder/site/thalweg/"
cmake --install "$build" --prefix "$folder/site" >/dev/null  # after the copy: a development tree holds libraries too
export PYTHONPATH="$folder/site${PYTHONPATH:+:$PYTHONPATH}" PYTHONDONTWRITEBYTECODE=1
"$python" -c 'from thalweg import _core; print(_core.cuda_device())' || status=1  # without one all tests are skipped
# Newer versions of what is installed here may warn: that is no fault of the GPU's.
"$python" -m pytest -p no:cacheprovider -W default --durations=5 tests/gpu "$@" 2>&1 | tee "$out/tests.log" || status=1

say "throughput"
"$build/cpp/bench_gpu" 2>&1 | tee "$out/throughput.log" || status=1
say "done"
exit $status
