"""Source files as syntax trees, and the docstrings, comments and words in them."""

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRODUCT = ("app.py", "bg_ingest", "workers")

QUESTION_WORDS = frozenset({"what", "who", "whom", "whose", "where", "when", "whether", "how", "which"})
WORD_GROUPS = {
    "what": frozenset({"what"}),
    "who, whom, whose": frozenset({"who", "whom", "whose", "whoever"}),
    "told, tell": frozenset({"told", "tell", "tells", "telling"}),
    "nobody, anybody, everybody": frozenset({"nobody", "anybody", "everybody"}),
}
WORD_LIMITS = {"what": 2, "who, whom, whose": 2, "told, tell": 1, "nobody, anybody, everybody": 1}
"""Uses per 1,000 words; AnyIO, Litestar and httpx have at most 0.5 of each."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One source file; ``path`` is relative to the repository, with slashes."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def name(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def line_count(self) -> int:
        return len(self.text.splitlines())


@dataclass(frozen=True)
class Docstring:
    """``kind`` is ``module``, ``class``, ``function`` or ``attribute``."""

    path: str
    line: int
    kind: str
    text: str


def read_modules(root: Path, locations: Iterable[str] = PRODUCT) -> list[Module]:
    """Return the Python files of the given files and folders, in the order of their paths."""
    files = (
        path
        for location in locations
        for path in ([root / location] if location.endswith(".py") else root.glob(f"{location}/**/*.py"))
    )
    return [Module(path.relative_to(root).as_posix(), path.read_text()) for path in sorted(files) if path.is_file()]


def within(modules: Iterable[Module], folder: str) -> list[Module]:
    return [module for module in modules if module.path.startswith(folder)]


def docstrings(module: Module) -> Iterator[Docstring]:
    """Yield all docstrings; an attribute's is the string that follows its assignment."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Module | ast.ClassDef | Function):
            kind = {ast.Module: "module", ast.ClassDef: "class"}.get(type(node), "function")
            if text := ast.get_docstring(node):
                yield Docstring(module.path, node.body[0].lineno, kind, text)
            for before, after in zip(node.body, node.body[1:], strict=False):
                if isinstance(before, ast.Assign | ast.AnnAssign) and (text := _string_statement(after)):
                    yield Docstring(module.path, after.lineno, "attribute", text)


def _string_statement(node: ast.stmt) -> str | None:
    match node:
        case ast.Expr(value=ast.Constant(value=str() as text)):
            return text.strip()
    return None


def question_openings(modules: Iterable[Module], kinds: Collection[str]) -> list[Docstring]:
    """Return the docstrings with a question word at the start."""
    return [
        docstring
        for module in modules
        for docstring in docstrings(module)
        if docstring.kind in kinds and QUESTION_WORDS & set(words(docstring.text)[:1])
    ]


def comments(module: Module) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string.lstrip("#").strip()


def words(text: str) -> list[str]:
    """Return the words of a text in lower case; a name with underscores is one word, a clitic is left out."""
    return [word.lower().removesuffix("'s") for word in re.findall(r"[A-Za-z_]+(?:'[a-z]+)?", text)]


def word_rates(modules: Iterable[Module]) -> dict[str, float]:
    """Return the uses per 1,000 words of docstrings and comments, by word group."""
    counts: Counter[str] = Counter()
    for module in modules:
        counts.update(_count_words(module))
    total = counts.total() or 1
    return {name: 1000 * sum(counts[word] for word in group) / total for name, group in WORD_GROUPS.items()}


@cache
def _count_words(module: Module) -> Counter[str]:
    texts = (*(docstring.text for docstring in docstrings(module)), *comments(module))
    return Counter(word for text in texts for word in words(text))


def imported_packages(module: Module) -> set[str]:
    """Return the top-level names of everything that a module imports."""
    names: set[str] = set()
    for node in ast.walk(module.tree):
        match node:
            case ast.Import(names=aliases):
                names.update(alias.name.partition(".")[0] for alias in aliases)
            case ast.ImportFrom(module=str() as origin):
                names.add(origin.partition(".")[0])
    return names
