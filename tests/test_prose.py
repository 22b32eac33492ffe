"""Texts that a reader meets use the field's terms and plain sentences."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
# No text may match one of these; beside each is the way to write it.
TERMS = {
    r"\bhears?\b|\bheard\b": "is trained on, sees",
    r"\btells?\b|\btold\b|\btelling\b": "shows, says, distinguishes",
    r"\bdearer?\b|\bdearest\b": "costs more, the most expensive",
    r"\bbut for\b": "except",
    r"\bleav\w* (?:0|zero) out\b|\bleft out by\b": "the interval excludes 0",
    r"\bborne? out\b|\bbears? out\b|\bbears? \w+ \w+ out\b": "faithful, confirmed",
    r"\bshall\b": "must, will",
    r"\bnobody's\b|\bwhoever\b|\bwhosoever\b": "name the person",
    r"\bwhat share\b": "what fraction",
    r"\bw[io]ns? back\b|\bwinning back\b": "closes the gap",
    r"\bfor all to see\b|\bone sees\b|\bone looks\b": "is explicit, shows",
    r"\bholds? \w+ impossible\b|\bknowledge is gone\b|\bholds? \S+ bits\b": "uncertainty",
    r"\bshared? out\b": "runs in parallel",
    r"\band the like\b|\bthe one thing\b|\bthe one and\b": "name the things",
    r"\bsays? whose\b": "names the owner",
    r"\bnot to be \w+ from\b": "not distinguishable from",
    r"\bstands? (?:beside|behind)\b": "is next to, follows",
    r"\bthat is why\b": "so, therefore",
    r"\btherein\b|\bthereof\b|\bwherein\b": "in this, of this",
    r"\bwhere there is no reader\b|\bresting place\b": "headless, the slider's default",
}
# A statement whose subject is a clause: "What is damaged is named."
CLAUSE_AS_SUBJECT = re.compile(r"(?:^|[.!?:] )What [^.?!]*\.(?=\s|$)")


def markdown(path):
    text = path.read_text(encoding="utf-8")
    return re.sub(
        r"^```.*?^```|^    .*?$|`[^`]*`|\]\([^)]*\)", " ", text, flags=re.DOTALL | re.MULTILINE
    )


def notebook(path):
    cells = nbformat.read(path, as_version=4).cells
    for cell in cells:
        if cell.cell_type == "markdown":
            yield re.sub(r"\$\$?.*?\$\$?|`[^`]*`", " ", cell.source, flags=re.DOTALL)
        else:
            yield from strings(cell.source)
            yield from re.findall(r"#(.*)", cell.source)


def strings(source, docstrings=True):
    """The texts in Python: those of more than three words."""
    tree = ast.parse(re.sub(r"^%.*$", "", source, flags=re.MULTILINE))
    described = (ast.Module, ast.ClassDef, ast.FunctionDef)
    skipped = (
        set()
        if docstrings
        else {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, described) and node.body and isinstance(node.body[0], ast.Expr)
        }
    )
    for node in ast.walk(tree):
        text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if text and len(node.value.split()) > 3 and id(node) not in skipped:
            yield re.sub(r"`[^`]*`", " ", node.value)


def texts(path, docstrings=True):
    if path.suffix == ".ipynb":
        return list(notebook(path))
    if path.suffix == ".py":
        return list(strings(path.read_text(encoding="utf-8"), docstrings))
    if path.suffix == ".md":
        return [markdown(path)]
    return [path.read_text(encoding="utf-8")]


READ = [
    path
    for pattern in (
        "*.md", "data/*.md", "report/*.md", "notebooks/*", "kdnb/**/*.md", "kdnb/**/*.py",
        "kdnb/**/*.j2", "kdnb/course/static/**/*.js",
    )
    for path in sorted(ROOT.glob(pattern))
    if path.is_file() and ".ipynb_checkpoints" not in path.parts
]  # fmt: skip


def around(text, match):
    return " ".join(text[max(0, match.start() - 40) : match.end() + 30].split())


@pytest.mark.parametrize(
    "sentence", ["Nobody told it.", "What is damaged is named.", "higher for the one that heard it"]
)
def test_a_sentence_of_this_kind_is_found(sentence, tmp_path):
    (tmp_path / "text.md").write_text(sentence)
    (text,) = texts(tmp_path / "text.md")
    terms = any(re.search(pattern, text, re.IGNORECASE) for pattern in TERMS)
    assert terms or CLAUSE_AS_SUBJECT.search(text)


def test_there_are_texts():
    assert {".md", ".ipynb", ".py", ".j2", ".js"} == {path.suffix for path in READ}


@pytest.mark.parametrize("path", READ, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_text_uses_a_term_that_readers_stumble_over(path):
    found = [
        f"{around(text, match)}: write {instead!r}"
        for text in texts(path)
        for pattern, instead in TERMS.items()
        for match in re.finditer(pattern, text, re.IGNORECASE)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", READ, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_statement_has_a_clause_for_a_subject(path):
    if path.suffix not in {".md", ".ipynb", ".py"}:
        return
    found = [
        m.strip()
        for text in texts(path, docstrings=False)
        for m in CLAUSE_AS_SUBJECT.findall(" ".join(text.split()))
    ]
    assert not found, "\n".join(found)
