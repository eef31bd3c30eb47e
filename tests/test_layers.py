"""One way down: the order of the library's layers, held by reading the imports."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "earmark"

# What each part may import of ours, lowest first. `errors` is the vocabulary of failure and open to all but metrics.
SHARED = {"errors", "metrics", "files", "audio", "report", "cli", "optional", "workers", "models", "embeddings"}
ALLOWED = {
    "errors": set(),
    "metrics": set(),
    "files": {"errors"},
    "audio": {"errors", "optional"},
    "report": {"errors", "metrics", "files", "cli"},
    "cli": {"errors"},
    "optional": {"errors"},
    "workers": set(),
    "models": {"errors", "metrics", "files", "audio", "optional"},
    "embeddings": {"errors", "metrics", "files", "audio", "models"},
    # The domains do not know one another; only audio_text reads annotation, whose labels it needs.
    "annotation": SHARED,
    "audio_text": {*SHARED, "annotation"},
    "speaker": SHARED,
    "probing": SHARED,
}


def modules() -> list[Path]:
    return sorted(LIBRARY.rglob("*.py"))


def ours(path: Path) -> set[str]:
    """The parts of the library that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "earmark":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("earmark.")}
    return found - {"__version__"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(LIBRARY).as_posix())
def test_module_imports_only_what_lies_below_it(path):
    part = path.relative_to(LIBRARY).parts[0].removesuffix(".py")
    if part == "__init__":
        assert not ours(path)
        return
    assert ours(path) <= ALLOWED[part] | {part}


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(LIBRARY).as_posix())
def test_library_is_silent(path):
    """No printing, no argv, no environment, no exit, no global seed; cli.py speaks for the scripts."""
    if path.name == "cli.py":
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    attributes = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not calls & {"print", "sys.exit", "exit", "np.random.seed", "random.seed", "torch.manual_seed"}
    assert not attributes & {"sys.argv", "os.environ", "os.getenv"}


def test_the_version_is_the_same_everywhere():
    import tomllib

    import earmark

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == earmark.__version__
    assert f"version: {earmark.__version__}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
