"""The stub of the native module names what the module has: no more and no less."""

import ast
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
