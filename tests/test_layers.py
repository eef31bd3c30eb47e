"""Layers of the library: modules import only lower layers."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "earmark"

# Parts of the library that each part may import, lowest first. All parts except metrics may import `errors`.
SHARED = {
    "errors",
    "metrics",
    "files",
    "audio",
    "report",
    "cli",
    "standard_output",
    "optional",
    "workers",
    "models",
    "embeddings",
    "cluster",
}
ALLOWED = {
    "errors": set(),
    "metrics": set(),
    "files": {"errors", "optional"},
    "audio": {"errors", "files", "optional"},
    "report": {"errors", "metrics", "files", "cli"},
    "cli": {"errors"},
    "standard_output": set(),
    "optional": {"errors", "standard_output"},
    "workers": set(),
    "models": {"errors", "metrics", "files", "audio", "standard_output", "optional", "workers"},
    "embeddings": {"errors", "metrics", "files", "audio", "models"},
    "cluster": {"errors", "audio", "cli", "optional", "models", "embeddings"},
    # Domains do not import each other, except that audio_text uses the labels of annotation.
    "annotation": SHARED,
    "audio_text": {*SHARED, "annotation"},
    "speaker": SHARED,
    "probing": SHARED,
    # Results of all domains, compared.
    "comparison": {*SHARED, "audio_text", "speaker", "probing"},
}


def modules() -> list[Path]:
    return sorted(LIBRARY.rglob("*.py"))


def imported_parts(path: Path) -> set[str]:
    """Top-level parts of the library that a module imports."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "earmark":
            parts = node.module.split(".")
            imported |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("earmark.")}
    return imported - {"__version__"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(LIBRARY).as_posix())
def test_module_imports_only_lower_layers(path):
    part = path.relative_to(LIBRARY).parts[0].removesuffix(".py")
    if part == "__init__":
        assert not imported_parts(path)
        return
    assert imported_parts(path) <= ALLOWED[part] | {part}


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(LIBRARY).as_posix())
def test_library_has_no_side_effects(path):
    """No printing, argv, environment, exit or global seed, except in cli.py."""
    if path.name == "cli.py":
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    attributes = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not calls & {"print", "sys.exit", "exit", "np.random.seed", "random.seed", "torch.manual_seed"}
    assert not attributes & {"sys.argv", "os.environ", "os.getenv"}


def test_version_is_consistent():
    import tomllib

    import earmark

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == earmark.__version__
    assert f"version: {earmark.__version__}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
