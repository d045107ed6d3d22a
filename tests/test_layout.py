"""The packages keep their layout: one direction of imports, no cycle, small functions, the field's names."""

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

SRC = Path(__file__).resolve().parents[1] / "src"


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of both packages by its dotted name, parsed."""
    found = {}
    for path in sorted(SRC.glob("vowel*/**/*.py")):
        parts = path.relative_to(SRC).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports(name: str) -> set[str]:
    """The modules of both packages that a module imports, also inside functions."""
    package = name if (SRC / name.replace(".", "/")).is_dir() else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(modules()[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *filter(None, [node.module])])
            found |= {f"{base}.{alias.name}" for alias in node.names} | {base}
    return {one for one in found if one in modules()} - {name, package, "vowelflow", "vowelstudy"}


def test_the_library_does_not_import_the_study():
    users = {
        name
        for name in modules()
        if name.startswith("vowelflow")
        for one in imports(name)
        if "vowelstudy" in one
    }
    assert not users


def test_no_module_imports_itself_by_way_of_others():
    list(TopologicalSorter({name: imports(name) for name in modules()}).static_order())


# Words for which there is a plainer or a standard term.
RETIRED = {
    "bench",
    "contest",
    "contestant",
    "listener",
    "told",
    "kept",
    "heard",
    "kin",
    "room",
    "house",
    "reach",
    "pieces",
    "shelf",
    "shelves",
}
RETIRED |= {"known", "unseen", "some", "round", "look", "depth"}


def defined(tree: ast.Module) -> set[str]:
    """Names that a module defines: functions, classes, arguments, variables and attributes."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.id if isinstance(node, ast.Name) else node.attr)
    return found


def test_names_are_those_of_the_field():
    wrong = {
        f"{module}: {name}"
        for module, tree in modules().items()
        for name in defined(tree)
        if RETIRED & set(name.lower().replace("round_trip", "").strip("_").split("_"))
    }
    assert not wrong


def test_no_function_is_longer_than_60_lines():
    long = {
        f"{module}.{node.name}: {node.end_lineno - node.lineno + 1}"
        for module, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno + 1 > 60
    }
    assert not long


def test_the_packages_stay_small():
    lines = {
        package: sum(
            len(path.read_text(encoding="utf-8").splitlines()) for path in (SRC / package).rglob("*.py")
        )
        for package in ("vowelflow", "vowelstudy")
    }
    assert lines["vowelflow"] <= 3600 and lines["vowelstudy"] <= 7800
    assert len((SRC / "vowelflow/glow.py").read_text(encoding="utf-8").splitlines()) <= 330
