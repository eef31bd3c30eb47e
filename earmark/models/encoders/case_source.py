"""CASE model files as people write them: the lines that evaluate the model below it, and the benchmark's base class.

The benchmark's guide puts the evaluation at the end of the file, without `if __name__ == "__main__":`. Only the class
is wanted here, so these lines are not executed; `notes` says which. The package `case_benchmark` is needed for its
base class alone, which a stand-in replaces where the package is not installed.
"""

import ast
import contextlib
import importlib.util
import symtable
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


def without_evaluation(tree: ast.Module) -> tuple[ast.Module, list[tuple[int, int]]]:
    """Remove the statements below the last class and function that evaluate a CASE model.

    They are removed if one of them calls a CASE class of the file, a name imported from `case_benchmark`, or a function
    of the file that does so. Constants before the first call are kept, and assignments of names that the classes and
    functions of the file read.

    Parameters
    ----------
    tree : ast.Module
        A parsed file.

    Returns
    -------
    tree : ast.Module
        The file to execute.
    lines : list of (int, int)
        First and last line, from 1, of each removed statement; empty if nothing is removed.

    Examples
    --------
    >>> model = "class M:\\n    def load(self): ...\\n    def extract_embedding(self, path): ...\\n"
    >>> without_evaluation(ast.parse(model + "RATE = 16_000\\nm = M()\\nprint(m)\\n"))[1]
    [(5, 5), (6, 6)]
    >>> without_evaluation(ast.parse(model + "print(1)\\n"))[1]
    []
    """
    last = max((i for i, each in enumerate(tree.body) if isinstance(each, Definition)), default=-1)
    below = [each for each in tree.body[last + 1 :] if not _is_main_guard(each)]
    starters = _evaluating_names(tree.body)
    if not any(_called(each) & starters for each in below):
        return tree, []
    needed = _globals_of_definitions(tree.body)
    first = next(i for i, each in enumerate(below) if _called(each))
    removed = [each for each in below[first:] if _called(each) & starters or not _assigned(each) & needed]
    kept = [each for each in tree.body if not any(each is other for other in removed)]
    lines = [(each.lineno, each.end_lineno or each.lineno) for each in removed]
    return ast.Module(kept, tree.type_ignores), lines


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
        found.append(f"{file.name}: {_shown(lines)} the model; only the class is used, and this part is not executed.")
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


def _globals_of_definitions(body: Sequence[ast.stmt]) -> set[str]:
    """Names of the file that its classes and functions read, without their own variables."""
    definitions: list[ast.stmt] = [each for each in body if isinstance(each, Definition)]
    scopes = [symtable.symtable(ast.unparse(ast.Module(definitions, [])), "", "exec")]
    names: set[str] = set()
    while scopes:
        scope = scopes.pop()
        scopes += scope.get_children()
        names |= {each.get_name() for each in scope.get_symbols() if each.is_global() and each.is_referenced()}
    return names


def _assigned(statement: ast.stmt) -> set[str]:
    """Names that an assignment or an import binds."""
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return {(alias.asname or alias.name).partition(".")[0] for alias in statement.names}
    if not isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        return set()
    stored = (each for each in ast.walk(statement) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store))
    return {each.id for each in stored}


def _shown(lines: Sequence[tuple[int, int]]) -> str:
    """Lines of consecutive statements, with their verb.

    >>> _shown([(28, 28), (29, 31), (40, 40)]), _shown([(3, 3)])
    ('lines 28 to 31 and 40 evaluate', 'line 3 evaluates')
    """
    ranges: list[tuple[int, int]] = []
    for first, last in lines:
        adjacent = bool(ranges) and first <= ranges[-1][1] + 1
        ranges.append((ranges.pop()[0], last) if adjacent else (first, last))
    shown = " and ".join(str(first) if first == last else f"{first} to {last}" for first, last in ranges)
    return f"lines {shown} evaluate" if " " in shown else f"line {shown} evaluates"


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
