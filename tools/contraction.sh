#!/usr/bin/env bash
# Fails where a compiled CUDA library could round differently from the CPU: PTX instructions that ptxas may fuse into an
# fma (mul and add without a rounding mode), or that are approximate or flush denormal numbers.
#   tools/contraction.sh LIBRARY...        needs cuobjdump (CUDA, or the wheel nvidia-cuda-cuobjdump)
set -euo pipefail
command -v cuobjdump >/dev/null || { echo "there is no cuobjdump on the PATH"; exit 1; }

for library in "$@"; do
  ptx=$(cuobjdump -ptx "$library")
  count() { grep -cE "$1" <<<"$ptx" || true; }
  kernels=$(count '^\.visible \.entry|^\.weak \.entry|^\.entry')
  loose=$(count '\b((mul|add|sub|mad)(\.ftz)?\.f(32|64)|[a-z.]*(approx|full|ftz)[a-z.]*\.f(32|64))\b')
  exact=$(count '\b(mul|add|sub|div|rcp|sqrt)\.rn\.f(32|64)\b')
  echo "$(basename "$library"): $kernels kernels, $exact rounded operations, $(count '\bfma\.rn\.f(32|64)\b') fma, $loose loose"
  [ "$kernels" -gt 0 ] && [ "$exact" -gt 0 ] && [ "$loose" -eq 0 ] || exit 1
done
