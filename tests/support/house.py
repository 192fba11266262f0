"""The rooms of the house and the arrows between them, read from the imports of all files.

`python -P tests/support/house.py` draws them anew in docs/architecture.md.
"""

from __future__ import annotations

import ast
from pathlib import Path

import networkx as nx

ROOT = Path(__file__).parents[2]

FOLDERS = {
    "convc": ROOT / "convc",
    "convc.frontends": ROOT / "frontends",
    "convc.schedules": ROOT / "schedules",
}

SOURCES = {
    ".".join([package, *path.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__"): path
    for package, folder in FOLDERS.items()
    for path in folder.rglob("*.py")
}

GROUND = (
    "dtype", "types", "errors", "files", "unit", "target", "formats", "arguments", "progress", "children",
    "naming",
)  # fmt: skip
"""The ground floor: loose files that everyone may import."""

PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "```mermaid\n", "```\n"


def room(module: str) -> str:
    """The part of the house that a module belongs to: `ir` for `convc.ir.graph`."""
    return module.split(".")[1] if "." in module else ""


def imports(path: Path, *, top_level: bool = False) -> set[str]:
    """Modules that a file imports (anywhere, or only when it is itself imported)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.update(_members(node))
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if not (top_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            pending.extend(ast.iter_child_nodes(node))
    return found


def _members(node: ast.ImportFrom) -> list[str]:
    """`from a import b` as `a.b` where that is a module, else as `a`."""
    assert node.module is not None
    names = [f"{node.module}.{alias.name}" for alias in node.names]
    return [name if name in SOURCES else node.module for name in names]


def arrows_of_files() -> nx.DiGraph:
    """Which file imports which."""
    arrows = nx.DiGraph()
    arrows.add_nodes_from(SOURCES)
    arrows.add_edges_from(
        (module, target)
        for module, path in SOURCES.items()
        for target in imports(path)
        if target in SOURCES and target != module
    )
    return arrows


def arrows_of_rooms() -> nx.DiGraph:
    """Which room imports which; the ground floor is one."""

    def name(module: str) -> str:
        return "ground" if room(module) in GROUND else room(module)

    arrows = nx.DiGraph()
    for here, there in arrows_of_files().edges:
        if name(here) and name(there) and name(here) != name(there):
            arrows.add_edge(name(here), name(there))
    return arrows


def drawing() -> str:
    """The rooms as a Mermaid flowchart; arrows that follow from others are left out."""
    arrows = sorted(nx.transitive_reduction(arrows_of_rooms()).edges)
    return "\n".join(["flowchart TD", *(f"    {here} --> {there}" for here, there in arrows), ""])


def drawn() -> str:
    """The drawing in docs/architecture.md."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


if __name__ == "__main__":
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{drawing()}{END}{rest.partition(END)[2]}", encoding="utf-8")
