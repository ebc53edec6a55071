#!/usr/bin/env bash
# Checks the style: ruff and mypy for Python, clang-format for C++. Needs the [dev] extra.
set -euo pipefail
cd "$(dirname "$0")/.."
ruff check .
mypy
find cpp cuda python/bindings -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' | xargs clang-format --dry-run --Werror
