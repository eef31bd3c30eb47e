"""CASE model files as people write them: the lines that evaluate the model below it, and the benchmark's base class.

The benchmark's guide puts the evaluation at the end of the file, without `if __name__ == "__main__":`. Only the class
is wanted here, so these lines are not executed; `notes` says which. The package `case_benchmark` is needed for its
base class alone, which a stand-in replaces where the package is not installed.
"""

import ast
import contextlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGE = "case_benchmark"
BASE_CLASS = "EmbeddingModel"
CASE_METHODS = ("load", "extract_embedding")
Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def without_evaluation(tree: ast.Module) -> tuple[ast.Module, tuple[int, int] | None]:
    """Remove the lines below the last class and function that evaluate a CASE model.

    They are removed if one of them calls a CASE class of the file, a name imported from `case_benchmark`, or a function
    of the file that does so. Constants before the first call are kept, because the class may use them.

    Parameters
    ----------
    tree : ast.Module
        A parsed file.

    Returns
    -------
    tree : ast.Module
        The file to execute.
    lines : (int, int) or None
        First and last removed line, from 1; None if nothing is removed.

    Examples
    --------
    >>> model = "class M:\\n    def load(self): ...\\n    def extract_embedding(self, path): ...\\n"
    >>> without_evaluation(ast.parse(model + "RATE = 16_000\\nm = M()\\nprint(m)\\n"))[1]
    (5, 6)
    >>> without_evaluation(ast.parse(model + "print(1)\\n"))[1] is None
    True
    """
    last = max((i for i, each in enumerate(tree.body) if isinstance(each, Definition)), default=-1)
    below = [i for i in range(last + 1, len(tree.body)) if not _is_main_guard(tree.body[i])]
    starters = _evaluating_names(tree.body)
    if not any(_called(tree.body[i]) & starters for i in below):
        return tree, None
    first = next(i for i in below if _called(tree.body[i]))
    removed = [i for i in below if i >= first]
    kept = [each for i, each in enumerate(tree.body) if i not in removed]
    final = tree.body[removed[-1]]
    return ast.Module(kept, tree.type_ignores), (tree.body[first].lineno, final.end_lineno or final.lineno)


def notes(file: Path) -> tuple[str, ...]:
    """What differs from executing a file as Python does, one sentence each.

    Parameters
    ----------
    file : Path
        A Python file.

    Returns
    -------
    tuple of str
        Empty for most files, and for one that cannot be read.
    """
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError):
        return ()
    found = []
    if lines := without_evaluation(tree)[1]:
        shown = f"line {lines[0]} evaluates" if lines[0] == lines[1] else f"lines {lines[0]} to {lines[1]} evaluate"
        verb = "was" if lines[0] == lines[1] else "were"
        found.append(f"{file.name}: {shown} the model and {verb} not executed; only the class is used.")
    if _imports_package(tree) and not is_installed():
        found.append(f"{file.name}: {PACKAGE} is not installed; a stand-in replaces its base class {BASE_CLASS}.")
    return tuple(found)


def last_statement_advice(tree: ast.Module, line: int | None) -> str:
    """Advice for an error in a line of a file outside its classes and functions, below the first of them.

    Parameters
    ----------
    tree : ast.Module
        The parsed file.
    line : int or None
        Line of the error, from 1.

    Returns
    -------
    str
        Empty if the line is elsewhere.
    """
    definitions = [each for each in tree.body if isinstance(each, Definition)]
    if line is None or not definitions or line <= (definitions[0].end_lineno or 0):
        return ""
    statement = next((each for each in tree.body if each.lineno <= line <= (each.end_lineno or each.lineno)), None)
    if statement is None or isinstance(statement, (*Definition.__args__, ast.Import, ast.ImportFrom)):
        return ""
    return '; move lines that run the model under `if __name__ == "__main__":`, which is not executed here'


def is_installed() -> bool:
    """Whether the benchmark's package can be imported."""
    return PACKAGE in sys.modules or importlib.util.find_spec(PACKAGE) is not None


@contextlib.contextmanager
def stand_in() -> Iterator[None]:
    """Provide the base class of the benchmark's package within a `with` block, unless the package is installed.

    Any other name of the package is a class that cannot be instantiated.
    """
    if is_installed():
        yield
        return
    finder = _StandInFinder()
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            del sys.modules[name]


class EmbeddingModel:
    """Stand-in for the benchmark's base class: what a model inherits from it apart from its abstract methods."""

    def __init__(self) -> None:
        self._loaded = False
        self._device = "cpu"

    @property
    def is_loaded(self) -> bool:
        """Whether `load` has set `_loaded`."""
        return self._loaded

    @property
    def device(self) -> str:
        """The device that `load` has set."""
        return self._device


class _StandInFinder(MetaPathFinder, Loader):
    """Imports `case_benchmark` and all of its modules as stand-ins."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != PACKAGE:
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__[BASE_CLASS] = EmbeddingModel
        module.__dict__["__getattr__"] = _missing


def _missing(name: str) -> Any:
    """A class in place of an attribute of the package."""
    if name.startswith("__"):
        raise AttributeError(name)

    def refuse(self: object, *arguments: Any, **options: Any) -> None:
        raise ModuleNotFoundError(f"{name} is part of {PACKAGE}, which is not installed", name=PACKAGE)

    return type(name, (), {"__init__": refuse})


def _evaluating_names(body: Sequence[ast.stmt]) -> set[str]:
    """Names whose call evaluates a model: CASE classes, names of the package, and functions that call one of them."""
    names = {name for each in body for name in _names_of_package(each)}
    methods: dict[str, set[str]] = {}
    for each in body:
        if isinstance(each, ast.ClassDef):
            own = {part.name for part in each.body if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef))}
            bases = {base.id for base in each.bases if isinstance(base, ast.Name)}
            methods[each.name] = own.union(*(methods.get(base, set()) for base in bases))
    names |= {name for name, own in methods.items() if own.issuperset(CASE_METHODS)}
    if not any(own.issuperset(CASE_METHODS) for own in methods.values()):
        return set()
    functions = [each for each in body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))]
    for _ in functions:  # a function may call another one
        names |= {each.name for each in functions if _called(each, inside=True) & names}
    return names


def _names_of_package(statement: ast.stmt) -> list[str]:
    """Names that an import statement binds to the package or to parts of it."""
    if isinstance(statement, ast.ImportFrom) and (statement.module or "").partition(".")[0] == PACKAGE:
        return [alias.asname or alias.name for alias in statement.names]
    if isinstance(statement, ast.Import):
        found = [alias for alias in statement.names if alias.name.partition(".")[0] == PACKAGE]
        return [alias.asname or PACKAGE for alias in found]
    return []


def _called(node: ast.AST, inside: bool = False) -> set[str]:
    """Names that are called in a statement: `f` of `f(x)`, and `a` of `a.b(x)`. inside: in the body of a function."""
    if isinstance(node, Definition) and not inside:
        return set()
    found = set()
    for each in ast.walk(node):
        if isinstance(each, ast.Call):
            target: ast.AST = each.func
            while isinstance(target, (ast.Attribute, ast.Subscript, ast.Call)):
                target = target.func if isinstance(target, ast.Call) else target.value
            found.add(target.id if isinstance(target, ast.Name) else "")
    return found


def _is_main_guard(statement: ast.stmt) -> bool:
    """Whether a statement is `if __name__ == …:`, which an import does not enter."""
    return isinstance(statement, ast.If) and any(
        isinstance(each, ast.Name) and each.id == "__name__" for each in ast.walk(statement.test)
    )


def _imports_package(tree: ast.Module) -> bool:
    return any(_names_of_package(each) for each in tree.body)
