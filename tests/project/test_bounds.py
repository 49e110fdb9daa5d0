"""The bounds that keep the code readable: names in a folder, lines in a file, tokens in a line, import cycles."""

import ast
import io
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

MOST_NAMES = 9  # files and folders in one folder
MOST_LINES = 350  # in one file
MOST_TOKENS = 7.5  # per line of code, docstrings and comments left out
MOST_PARALLEL_ASSIGNMENTS = 25  # a, b = x, y
MOST_FORMATTER_EXCEPTIONS = 10  # fmt: skip, for tables of data
MOST_COLUMNS = 120  # in a line of code

LAYOUT_TOKENS = {
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.COMMENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
LIBRARY = sorted((ROOT / "cxr").rglob("*.py"))
OUTER = sorted((ROOT / "tasks").rglob("*.py")) + sorted((ROOT / "flows").rglob("*.py"))
EVERYTHING = LIBRARY + OUTER


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def docstring_lines(tree: ast.AST) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            docstring = node.body[0]
            lines.update(range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1))
    return lines


def tokens_per_line(paths: list[Path]) -> float:
    tokens = 0
    lines_of_code = 0
    for path in paths:
        text = read(path)
        docstrings = docstring_lines(ast.parse(text))
        code: set[int] = set()
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type in LAYOUT_TOKENS or token.start[0] in docstrings:
                continue
            tokens += 1
            code.update(range(token.start[0], token.end[0] + 1))
        lines_of_code += len(code)
    return tokens / lines_of_code


def parallel_assignments(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(read(path))):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Tuple):
            continue
        if any(isinstance(target, ast.Tuple) for target in node.targets):
            yield f"{path.relative_to(ROOT)}:{node.lineno}"


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported_names(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(read(path))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def import_cycle(paths: list[Path]) -> list[str]:
    """Return the modules of one cycle of imports, or an empty list."""
    modules = {module_name(path): path for path in paths}
    left = {
        name: (imported_names(path) & modules.keys()) - {name} for name, path in modules.items()
    }
    while left:
        leaves = {name for name, imports in left.items() if not imports & left.keys()}
        if not leaves:
            return sorted(left)
        for name in leaves:
            del left[name]
    return []


def test_no_folder_of_the_library_holds_more_than_nine_names():
    """A listing of any folder can be taken in at a glance."""
    names: Counter[Path] = Counter()
    for path in LIBRARY:
        if path.name != "__init__.py":
            names[path.parent] += 1
    for folder in {path.parent for path in LIBRARY} - {ROOT / "cxr"}:
        names[folder.parent] += 1
    too_full = {str(folder): count for folder, count in names.items() if count > MOST_NAMES}
    assert not too_full


def test_no_file_of_the_library_is_longer_than_350_lines():
    """A file holds one idea; what grows longer is two."""
    lengths = {str(path.relative_to(ROOT)): len(read(path).splitlines()) for path in LIBRARY}
    assert not {name: lines for name, lines in lengths.items() if lines > MOST_LINES}


@pytest.mark.parametrize("paths", [LIBRARY, OUTER], ids=["library", "tasks and flows"])
def test_lines_of_code_are_not_dense(paths: list[Path]):
    """On average a line of code has at most 7.5 tokens: one thing a line."""
    assert tokens_per_line(paths) <= MOST_TOKENS


def test_parallel_assignments_are_rare():
    """Two unrelated values are assigned on two lines."""
    places = [place for path in EVERYTHING for place in parallel_assignments(path)]
    assert len(places) <= MOST_PARALLEL_ASSIGNMENTS, places


def test_the_formatter_is_kept_out_of_tables_of_data_alone():
    """`fmt: skip` stands over the few tables that read better as they were typed."""
    lines = [line for path in EVERYTHING for line in read(path).splitlines()]
    assert sum("fmt: skip" in line for line in lines) <= MOST_FORMATTER_EXCEPTIONS


def test_no_line_of_code_is_wider_than_120_columns():
    """Code can be read beside its difference to the version before."""
    wide = []
    for path in EVERYTHING:
        text = read(path)
        docstrings = docstring_lines(ast.parse(text))
        for number, line in enumerate(text.splitlines(), 1):
            if len(line) > MOST_COLUMNS and number not in docstrings:
                wide.append(f"{path.relative_to(ROOT)}:{number}")
    assert not wide


def test_the_library_has_no_cycle_of_imports():
    """Every module stands on modules below it."""
    assert import_cycle(LIBRARY) == []


def test_a_cycle_of_imports_would_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two modules that import each other are named, the one that imports neither is not."""
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    for name, text in {"a": "import b", "b": "from c import x\nimport a", "c": "x = 1"}.items():
        (tmp_path / f"{name}.py").write_text(text)
    assert import_cycle(sorted(tmp_path.glob("*.py"))) == ["a", "b"]
