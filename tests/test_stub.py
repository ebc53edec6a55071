"""The stub of the native module names what the module has: no more and no less, arguments too."""

import ast
import re
from importlib import resources

from thalweg import _core


def declared():
    """Names of the stub: {top-level name: names of the class, or None}."""
    tree = ast.parse(resources.files("thalweg").joinpath("_core.pyi").read_text())
    names = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            names[node.name] = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
        elif isinstance(node, ast.FunctionDef):
            names[node.name] = None
        elif isinstance(node, ast.AnnAssign):
            names[node.target.id] = None
    return names


def test_every_declared_name_exists():
    for name, members in declared().items():
        assert hasattr(_core, name), name
        for member in members or ():
            assert hasattr(getattr(_core, name), member), f"{name}.{member}"


def test_every_public_name_is_declared():
    names = declared()
    assert {n for n in vars(_core) if not n.startswith("_")} <= names.keys()
    for name, members in names.items():
        if members:
            public = {n for n in vars(getattr(_core, name)) if not n.startswith("_")}
            assert public <= members, name


def signatures(body, of):
    """Arguments that the stub declares and those in the module's own docstrings: {name: (declared, real)}."""
    found = {}
    for node in body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{k}": v for k, v in signatures(node.body, getattr(of, node.name)).items()}
        elif isinstance(node, ast.FunctionDef):
            doc = getattr(getattr(of, node.name), "__doc__", "") or ""
            if doc.startswith(f"{node.name}("):
                given = [a.arg for a in node.args.args] + ["*" + a.arg for a in [node.args.vararg] if a]
                given += [a.arg for a in node.args.kwonlyargs]
                found[node.name] = given, arguments(doc.split("\n")[0])
    return found


def arguments(signature):
    """Names of the arguments in pybind11's "name(self: Class, x: list[int] = [], ...) -> result"."""
    inner = signature[signature.index("(") + 1 : signature.rindex(") ->")]
    while re.search(r"[\[({]", inner):
        inner = re.sub(r"\[[^\[\](){}]*\]|\([^\[\](){}]*\)|\{[^\[\](){}]*\}", "", inner)
    return [part.split(":")[0].strip() for part in inner.split(",") if part.strip()]


def test_arguments_have_the_declared_names():
    tree = ast.parse(resources.files("thalweg").joinpath("_core.pyi").read_text())
    found = signatures(tree.body, _core)
    assert {"fill_random", "Session.step", "Communicator.all_reduce", "Graph.input"} <= found.keys()
    assert {name: pair for name, pair in found.items() if pair[0] != pair[1]} == {}
