"""Classes and protocols of the source: implementations, repeated names, attributes assigned from outside."""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from tests.docs.source import Function, Module, within

SIMULATOR = "bg_ingest/simulator/"
PORTS = "bg_ingest/ports/"


@dataclass(frozen=True)
class Class:
    """One class statement; ``methods`` are its own, ``bases`` and ``wraps`` are last parts of dotted names.

    ``wraps`` holds the annotations of the constructor's parameters.
    """

    path: str
    name: str
    bases: tuple[str, ...]
    methods: frozenset[str]
    wraps: frozenset[str]

    @property
    def is_protocol(self) -> bool:
        return "Protocol" in self.bases


def classes(modules: Iterable[Module]) -> list[Class]:
    return [description for module in modules for description in _classes_of(module)]


@cache
def _classes_of(module: Module) -> tuple[Class, ...]:
    nodes = [node for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)]
    return tuple(_describe_class(module.path, node) for node in nodes)


def _describe_class(path: str, node: ast.ClassDef) -> Class:
    functions = [child for child in node.body if isinstance(child, Function)]
    constructors = [function.args for function in functions if function.name == "__init__"]
    annotations = [
        argument.annotation for arguments in constructors for argument in (*arguments.args, *arguments.kwonlyargs)
    ]
    fields = [child.annotation for child in node.body if isinstance(child, ast.AnnAssign)]
    wraps = {last_name(annotation) for annotation in (*annotations, *fields) if annotation}
    bases = tuple(last_name(base) for base in node.bases)
    return Class(path, node.name, bases, frozenset(function.name for function in functions), frozenset(wraps))


def last_name(node: ast.expr) -> str:
    match node:
        case ast.Subscript(value=value):
            return last_name(value)
        case ast.Constant(value=str() as text):
            return text.rpartition(".")[2]
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


def implementations(protocol: Class, candidates: Sequence[Class]) -> list[Class]:
    """Return the classes that implement a protocol by its name or by all its methods, each on its own.

    Classes that wrap the protocol and subclasses of another implementation are left out.
    """
    by_name = {candidate.name: candidate for candidate in candidates}

    def ancestors(candidate: Class, seen: frozenset[str] = frozenset()) -> list[Class]:
        parents = [by_name[base] for base in candidate.bases if base in by_name and base not in seen]
        return [*parents, *(distant for parent in parents for distant in ancestors(parent, seen | {parent.name}))]

    def fits(candidate: Class) -> bool:
        family = [candidate, *ancestors(candidate)]
        if any(protocol.name in member.bases for member in family):
            return True
        return bool(protocol.methods) and protocol.methods <= {name for member in family for name in member.methods}

    fitting = [candidate for candidate in candidates if not candidate.is_protocol and fits(candidate)]
    names = {candidate.name for candidate in fitting}
    return [
        candidate
        for candidate in fitting
        if protocol.name not in candidate.wraps and not names & {parent.name for parent in ancestors(candidate)}
    ]


def protocols(modules: Iterable[Module]) -> list[Class]:
    return [candidate for candidate in classes(modules) if candidate.is_protocol]


def lone_protocols(product: Sequence[Module], tests: Sequence[Module]) -> list[str]:
    """Return the protocols of the ports with at most one implementation in the product and none in the tests."""
    ours, fakes = classes(product), classes(tests)
    return [
        port.name
        for port in protocols(within(product, PORTS))
        if len(implementations(port, ours)) < 2 and not implementations(port, fakes)
    ]


def repeated_class_names(modules: Iterable[Module]) -> dict[str, list[str]]:
    """Return the names of classes that are defined more than once, with the files; the simulator does not count."""
    locations: dict[str, list[str]] = defaultdict(list)
    for description in classes(modules):
        if not description.path.startswith(SIMULATOR):
            locations[description.name].append(description.path)
    return {name: paths for name, paths in locations.items() if len(paths) > 1}


def outside_assignments(modules: Sequence[Module]) -> dict[str, list[str]]:
    """Return the attributes of product classes that other modules assign, each with the locations.

    The target is ``x.attr`` with ``x`` neither ``self`` nor ``cls``. A class that is no record has ``attr``, and
    no class of the assigning module has it. This is a heuristic, because types are unknown. Counters (``+=``),
    request state and the simulator are left out.
    """
    statements = [
        (module.path, node)
        for module in modules
        if not module.path.startswith(SIMULATOR)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    ]
    owned = {name for _, node in statements if not _is_record(node) for name in _own_attributes(node)}
    local = {(path, name) for path, node in statements for name in _own_attributes(node)}
    locations: dict[str, list[str]] = defaultdict(list)
    for module in modules:
        counters = {id(node.target) for node in ast.walk(module.tree) if isinstance(node, ast.AugAssign)}
        for target in _assigned_attributes(module.tree):
            if id(target) in counters:
                continue
            chain = ast.unparse(target.value).split(".")
            foreign = target.attr in owned and (module.path, target.attr) not in local
            if foreign and chain not in (["self"], ["cls"]) and "state" not in chain:
                locations[target.attr].append(f"{module.path}:{target.lineno}")
    return dict(locations)


def _is_record(node: ast.ClassDef) -> bool:
    """Recognize records: msgspec structs, dataclasses and classes without a method beside the constructor."""
    decorators = {
        last_name(decorator.func if isinstance(decorator, ast.Call) else decorator) for decorator in node.decorator_list
    }
    declared = "dataclass" in decorators or bool({"Struct", "NamedTuple"} & {last_name(base) for base in node.bases})
    return declared or {child.name for child in node.body if isinstance(child, Function)} <= {"__init__"}


def _own_attributes(node: ast.ClassDef) -> Iterator[str]:
    for child in node.body:
        if isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
            yield child.target.id
    for target in _assigned_attributes(node):
        if isinstance(target.value, ast.Name) and target.value.id == "self":
            yield target.attr


def _assigned_attributes(tree: ast.AST) -> Iterator[ast.Attribute]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node
