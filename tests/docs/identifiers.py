"""Identifiers that a module defines, and whole words in them."""

import ast
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from itertools import pairwise
from pathlib import PurePosixPath
from typing import NamedTuple

from tests.docs.source import Module

LOG_METHODS = frozenset({"debug", "info", "warning", "error", "exception", "critical", "bind"})


class Allowed(NamedTuple):
    """Exception to a word rule: patterns of identifiers and of paths, with the reason."""

    identifier: str
    path: str
    reason: str


class Use(NamedTuple):
    """One identifier of a file with the words in it that a rule replaces."""

    path: str
    identifier: str
    words: frozenset[str]


@cache
def identifiers(module: Module) -> frozenset[str]:
    """Return names of files, folders, classes, functions, arguments, variables, fields, log keys and log actions."""
    return frozenset({*PurePosixPath(module.path).with_suffix("").parts, *_defined(module.tree)})


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name
            case ast.alias(asname=str() as name) | ast.ExceptHandler(name=str() as name):
                yield name
            case ast.MatchAs(name=str() as name) | ast.MatchStar(name=str() as name):
                yield name
            case ast.Call(func=ast.Attribute(attr=method), keywords=keywords) if method in LOG_METHODS:
                yield from (keyword.arg for keyword in keywords if keyword.arg)
                yield from _actions(keywords)


def _actions(keywords: Iterable[ast.keyword]) -> Iterator[str]:
    for keyword in keywords:
        match keyword:
            case ast.keyword(arg="action", value=ast.Constant(value=str() as action)):
                yield action


@cache
def words_in(identifier: str) -> frozenset[str]:
    """Return the words of a snake-case or camel-case identifier in lower case, and its pairs of adjacent words."""
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", identifier)]
    return frozenset({*words, *(f"{first} {second}" for first, second in pairwise(words))})


def replaced_words(identifier: str, rules: Collection[str]) -> frozenset[str]:
    """Return the words of the rules in an identifier, in the singular or the plural."""
    words = words_in(identifier)
    return frozenset(rule for rule in rules if words & {rule, *_plurals(rule)})


def _plurals(word: str) -> set[str]:
    return {f"{word}s", f"{word}es", f"{word.removesuffix('y')}ies" if word.endswith("y") else f"{word}s"}


def uses(modules: Iterable[Module], rules: Collection[str]) -> list[Use]:
    return [
        Use(module.path, identifier, words)
        for module in modules
        for identifier in sorted(identifiers(module))
        if (words := replaced_words(identifier, rules))
    ]


def breaches(all_uses: Iterable[Use], allowed: Collection[Allowed], rules: Mapping[str, str]) -> list[str]:
    """Return a line for each use without an exception, with the words to use instead."""
    return [
        f"{use.path}: {use.identifier} ({', '.join(f'{word}: {rules[word]}' for word in sorted(use.words))})"
        for use in all_uses
        if not any(covers(exception, use) for exception in allowed)
    ]


def needless(all_uses: Collection[Use], allowed: Iterable[Allowed]) -> list[Allowed]:
    """Return the exceptions that cover no use."""
    return [exception for exception in allowed if not any(covers(exception, use) for use in all_uses)]


def covers(exception: Allowed, use: Use) -> bool:
    return fnmatchcase(use.identifier, exception.identifier) and fnmatchcase(use.path, exception.path)
