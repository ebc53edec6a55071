"""The house: each floor includes only the floors below it, and every file stays readable (CONTRIBUTING.md says more).

Reads #include and import lines; each rule is also shown to catch a planted mistake.
"""

import ast
import posixpath
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# What a folder of cpp/ may include: whole folders, or single files of a floor that is otherwise closed to it.
MAY_INCLUDE = {
    "formula": {"formula"},
    "tensor": {"tensor", "formula/number.h", "formula/bf16.h"},
    "exec": {"exec", "tensor", "formula/number.h", "formula/bf16.h"},
    "optim": {"optim", "exec", "tensor", "formula"},
    "comm": {"comm", "exec", "tensor", "formula"},
    "ops": {"ops", "optim", "exec", "tensor", "formula"},
    "plan": {"plan", "comm", "ops", "optim", "exec", "tensor", "formula"},
    "bindings": {"bindings", "plan", "comm", "ops", "optim", "exec", "tensor", "formula"},
}
INTRINSICS = re.compile(r"[a-z]*mmintrin\.h|arm_(neon|sve)\.h|cuda[a-z_]*\.h")
LAUNCH = re.compile(r"<<<|\bcuda[A-Z]\w*\s*\(")
TRANSCENDENTAL = re.compile(
    r"\b(?:std::|__builtin_)(?:exp2?|expm1|log(?:2|10|1p)?|a?tanh|a?sinh|a?cosh|a?sin|a?cos|a?tan|atan2|pow|erfc?|[lt]gamma|cbrt)f?\s*\("
)
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
LISTS = re.compile(r"\b(register|bind)_\w+\s*\([^()]*\)\s*$")  # functions that are a list of entries, without logic
PICKLES = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
LONGEST_FILE, LONGEST_FUNCTION, LONGEST_KERNEL_OR_LIST = 400, 60, 80


def without_comments(text: str) -> str:
    """The code with comments and string literals blanked, line by line where it was."""
    token = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'', re.DOTALL)
    return token.sub(lambda m: "\n" * m.group().count("\n"), text)


def sources() -> dict[str, str]:
    """Every native source as {"ops/conv2d.cpp": text}: cpp/ and cuda/ share the floors, the bindings stand above."""
    found = {}
    for base, prefix in (("cpp", ""), ("cuda", ""), ("python/bindings", "bindings/")):
        for path in sorted((ROOT / base).rglob("*")):
            if path.suffix in (".h", ".hpp", ".cpp", ".cu", ".cuh", ".inc"):
                found[prefix + path.relative_to(ROOT / base).as_posix()] = path.read_text()
    return found


def python_sources() -> list[Path]:
    return sorted((ROOT / "python" / "thalweg").rglob("*.py"))


def include_faults(name: str, text: str) -> list[str]:
    """The includes of one file that its floor does not allow."""
    floor, faults = name.split("/")[0], []
    for form, target in INCLUDE.findall(text):
        if form == "<":
            if floor != "bindings" and (target.startswith("pybind11/") or target == "Python.h"):
                faults.append(f"{name}: <{target}> belongs to the bindings")
            if floor != "exec" and INTRINSICS.fullmatch(target):
                faults.append(f"{name}: <{target}>: intrinsics belong to exec")
            continue
        path = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
        if path.split("/")[0] not in MAY_INCLUDE:  # bindings name the others from their folder or from cpp/
            path = target.split("cpp/")[-1] if "cpp/" in target else target
        allowed = MAY_INCLUDE[floor]
        if path.split("/")[0] not in allowed and path not in allowed:
            faults.append(f"{name}: {floor} must not include {target}")
    return faults


def word_faults(name: str, text: str) -> list[str]:
    """Library mathematics where our own belongs (the bits of std::exp depend on the machine); devices outside exec."""
    floor, code = name.split("/")[0], without_comments(text)
    if floor not in ("formula", "ops", "optim", "exec"):
        return []
    faults = [f"{name}: {match.group()}: use formula/math.h" for match in TRANSCENDENTAL.finditer(code)]
    if floor != "exec":
        faults += [f"{name}: {match.group()}: only executors talk to a device" for match in LAUNCH.finditer(code)]
    return faults


def long_functions(name: str, text: str) -> list[str]:
    """Functions, by counting braces: a block directly inside namespaces, classes and extern "C" blocks."""
    kernels = name.split("/")[0] == "exec"
    faults, stack, head, line = [], [], "", 1
    for character in without_comments(text):
        if character == "{":
            scope = re.search(r"\b(namespace|class|struct|union|enum|extern)\b[^()]*$", head.strip()) is not None
            long = kernels or LISTS.search(head.strip()) is not None
            stack.append((scope, line, LONGEST_KERNEL_OR_LIST if long else LONGEST_FUNCTION))
            head = ""
        elif character == "}" and stack:
            scope, first, limit = stack.pop()
            if not scope and all(outer for outer, _, _ in stack) and line - first + 1 > limit:
                faults.append(f"{name}:{first}: a function of {line - first + 1} lines, at most {limit}")
            head = ""
        elif character == ";":
            head = ""
        else:
            head += character
        line += character == "\n"
    return faults


def import_faults(name: str, text: str) -> list[str]:
    """Peers and unsafe readers have no place in the package."""
    faults = []
    for node in ast.walk(ast.parse(text)):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            modules = [node.module or ""]
        for module in modules:
            if module.split(".")[0] in {"torch", "jax", "sklearn", "tensorflow"}:
                faults.append(f"{name}:{node.lineno}: the package must not import {module}")
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno is not None:
            lines = node.end_lineno - node.lineno + 1
            if lines > LONGEST_FUNCTION:
                faults.append(f"{name}:{node.lineno}: {node.name} has {lines} lines, at most {LONGEST_FUNCTION}")
    return faults


def pickle_faults(name: str, text: str) -> list[str]:
    """Pickle in any form: what reads it runs what is written there."""
    faults = []
    for node in ast.walk(ast.parse(text)):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            modules = [node.module or ""]
        faults += [f"{name}:{node.lineno}: {m}" for m in modules if m.split(".")[0] in PICKLES]
        given = node.arg if isinstance(node, ast.keyword) else None
        if given in ("allow_pickle", "pickle_module") and getattr(node.value, "value", None) is not False:
            faults.append(f"{name}:{node.value.lineno}: {given}")
    return faults


def test_each_floor_includes_only_the_floors_below():
    found = sources()
    assert len(found) > 20
    assert not [fault for name, text in found.items() for fault in include_faults(name, text)]


def test_the_mathematics_is_ours():
    assert not [fault for name, text in sources().items() for fault in word_faults(name, text)]


def test_the_package_imports_no_peer_and_functions_are_short():
    faults = [f for path in python_sources() for f in import_faults(path.name, path.read_text())]
    faults += [fault for name, text in sources().items() for fault in long_functions(name, text)]
    assert not faults


def test_nothing_is_pickled():
    files = [path for folder in ("python", "tests", "bench", "tools") for path in (ROOT / folder).rglob("*.py")]
    assert not [f for path in files for f in pickle_faults(str(path.relative_to(ROOT)), path.read_text())]


def test_files_are_short():
    folders = ("cpp", "cuda", "python", "tests", "bench", "tools")
    files = [
        p
        for folder in folders
        for p in (ROOT / folder).rglob("*")
        if p.suffix in (".h", ".cpp", ".cu", ".cuh", ".py", ".pyi")
    ]
    long = {str(p.relative_to(ROOT)): n for p in files if (n := p.read_text().count("\n")) > LONGEST_FILE}
    assert not long


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("formula/exp.h", '#include "../tensor/shape.h"'),
        ("tensor/shape.h", '#include "../formula/exp.h"'),
        ("exec/reduce.h", '#include "../formula/moments.h"'),
        ("exec/pool.cpp", '  #  include "../ops/operator.h"'),
        ("comm/threads.cpp", '#include "../ops/operator.h"'),
        ("ops/linear.cpp", '#include "../comm/communicator.h"'),
        ("ops/linear.cpp", '#include "../plan/plan.h"'),
        ("plan/plan.cpp", "#include <pybind11/pybind11.h>"),
        ("ops/linear.cpp", "#include <Python.h>"),
        ("formula/exp.h", "#include <immintrin.h>"),
        ("optim/update.cpp", "#include <arm_neon.h>"),
        ("ops/cuda.cu", "#include <cuda_runtime.h>"),
        ("ops/cuda.cu", '#include "../../cpp/plan/cuda.h"'),
    ],
)
def test_a_planted_include_is_caught(name, line):
    assert include_faults(name, f"// a comment\n{line}\n")


def test_allowed_includes_are_not_reported():
    assert not include_faults("tensor/buffer.h", '#include "../formula/number.h"\n#include <vector>\n')
    assert not include_faults(
        "exec/tile.cpp", '#include <immintrin.h>\n#include "../tensor/type.h"\n#include "tile.h"\n'
    )
    assert not include_faults(
        "bindings/module.cpp", '#include <pybind11/pybind11.h>\n#include "../../cpp/plan/plan.h"\n'
    )


def test_planted_mathematics_imports_and_length_are_caught():
    assert word_faults("ops/activation.cpp", "float f(float x) { return std::tanh(x); }")
    assert word_faults("ops/cuda.cu", "loop<<<1, 32>>>(f);") and word_faults("optim/update.cu", "cudaMalloc(&p, 8);")
    assert not word_faults("ops/activation.cpp", "// std::tanh(x) would depend on the machine\n")
    assert import_faults("a.py", "import torch.nn\n") and import_faults("a.py", "from sklearn import svm\n")
    assert import_faults("a.py", "def f():\n" + "    pass\n" * 60)
    assert pickle_faults("a.py", "import pickle\n") and pickle_faults("a.py", "from joblib import dump\n")
    assert pickle_faults("a.py", "np.load(f, allow_pickle=True)") and not pickle_faults("a.py", "allow_pickle = 1")
    body = "  x += 1;\n" * 60
    assert long_functions("ops/a.cpp", f"namespace n {{\nstruct S {{\n void f() {{\n{body}}}\n}};\n}}\n")
    assert not long_functions("ops/a.cpp", f"namespace n {{\n{'int f() { return 1; }' * 3}\n{'int x;' * 90}\n}}\n")
