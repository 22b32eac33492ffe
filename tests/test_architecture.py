"""The package keeps to the floor plan that kdnb/README.md tells, and stays small."""

import ast
import re
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "kdnb"
MODULES = sorted(PACKAGE.rglob("*.py"))
SECTIONS = (PACKAGE / "README.md").read_text(encoding="utf-8").split("\n## ")
# The goals are 5,000 and 12,500 lines; these bounds are where it stands, and go down from here.
ENGINE_LINES, PACKAGE_LINES, FILE_LINES = 9_690, 20_626, 350
FOLDER_FILES, FIELDS = 12, 12


def section(heading: str) -> str:
    (text,) = [text for text in SECTIONS if text.startswith(f"{heading}\n")]
    return text


def rows(heading: str) -> list[list[str]]:
    """The cells of each row of the table under a heading."""
    lines = [line for line in section(heading).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def place(file: Path) -> tuple[str, ...]:
    """("data", "mnist") of kdnb/data/mnist.py, ("data",) of kdnb/data/__init__.py."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imports(file: Path) -> set[tuple[str, ...]]:
    """The places of kdnb's modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: imports are absolute here"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for first, *rest in (name.split(".") for name in names):
            if first == "kdnb":
                is_module = tuple(rest) in {place(module) for module in MODULES}
                found.add(tuple(rest if is_module else rest[:-1]))
    return found


def test_modules_import_only_what_stands_left_of_them():
    """Data flows one way; the course imports the engine and never the other way."""
    (line,) = [text for text in section("Who may import whom").split("\n\n") if " →" in text]
    order = quoted(line)
    assert sorted(order) == sorted({place(module)[0] for module in MODULES if place(module)})
    for module in MODULES:
        top = place(module)[:1]
        allowed = {"fingerprint"} if not top else set(order[: order.index(*top) + 1])
        others = {there[0] for there in imports(module) if there} - allowed
        assert not others, f"{module.relative_to(PACKAGE)} imports {others}"


def test_no_modules_import_one_another_in_a_circle():
    TopologicalSorter({place(module): imports(module) for module in MODULES}).prepare()


def defined_in(file: Path) -> set[str]:
    """Functions, classes, "Class.method"s and constants of a module."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = [each for each in node.body if isinstance(each, ast.FunctionDef)]
            found |= {f"{node.name}.{method.name}" for method in methods}
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


@pytest.mark.parametrize(
    ("file", "names"),
    [row[1:] for row in rows("Where is …?") + rows("The way of one parameter")],
    ids=lambda cell: cell.replace("`", ""),
)
def test_a_name_stands_in_the_file_that_the_tables_give(file, names):
    path = PACKAGE / file.strip("`")
    assert path.is_file()
    if path.suffix == ".py":
        assert quoted(names)
        assert set(quoted(names)) <= defined_in(path)


def test_the_tables_are_whole():
    here = {path.name + "/" * path.is_dir() for path in PACKAGE.iterdir()}
    named = {place.strip("`") for place, _ in rows("Files and folders")}
    assert here - named <= {"__init__.py", "README.md", "__pycache__/"} and named <= here
    assert len(rows("Where is …?")) >= 20
    assert len({file for _, file, _ in rows("The way of one parameter")}) <= 5
    for change, *cells in rows("Three changes"):
        files = [name for name in quoted(" ".join(cells)) if re.search(r"\.(py|ipynb|md)$", name)]
        # A chapter is in the tables of README.md and of notebooks/README.md.
        assert 1 <= len(files) <= 3 + (change == "a chapter"), change
        for file in files:
            is_new = "flowers" in file or "…" in file
            assert is_new or (PACKAGE / file).is_file() or (ROOT / file).is_file(), file


def lines_of(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


def test_the_package_stays_small(capsys):
    course = sum(lines_of(file) for file in MODULES if place(file)[:1] == ("course",))
    whole = sum(map(lines_of, MODULES))
    engine = whole - course
    with capsys.disabled():
        print(f"\n{engine:,} lines in the engine, {whole:,} in kdnb", end="")
    assert engine <= ENGINE_LINES
    assert whole <= PACKAGE_LINES


def test_no_file_is_long_and_no_folder_is_full():
    lines = {str(file.relative_to(ROOT)): lines_of(file) for file in MODULES}
    assert {file: number for file, number in lines.items() if number > FILE_LINES} == {}
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    folders = Counter(str(path.parent.relative_to(ROOT)) for path in files)
    assert {folder: number for folder, number in folders.items() if number > FOLDER_FILES} == {}


def is_dataclass(node: ast.AST) -> bool:
    decorators = node.decorator_list if isinstance(node, ast.ClassDef) else ()
    return any(ast.unparse(each).startswith("dataclass") for each in decorators)


def test_no_dataclass_has_many_fields():
    fields = {}
    for module in MODULES:
        nodes = ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        for kind in filter(is_dataclass, nodes):
            named = [ast.unparse(n.annotation) for n in kind.body if isinstance(n, ast.AnnAssign)]
            fields[kind.name] = sum("ClassVar" not in annotation for annotation in named)
    assert {name: number for name, number in fields.items() if number > FIELDS} == {}
    assert fields
