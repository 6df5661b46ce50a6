"""Read units of a request in each layout, by DynamoDB's rules and from the sizes of the items it touches."""

from collections.abc import Sequence

from bg_ingest.ports.table import Item
from bg_ingest.store.segments import SEGMENT_BATCH_SIZE
from tests.long.benchmarks.capacity import item_size, read_units
from tests.long.benchmarks.history import Person, items, segments

PAGE = 1_048_576
"""Bytes of items in one page of a query."""

_KEYS = item_size(("", ""), {})


def of_service(person: Person, *, is_range: bool) -> float:
    """One consistent GetItem of the head; for a range also its segments, read eventually consistent."""
    (key, head), *rows = segments(person)
    units = read_units(item_size(key, head))
    pages = [
        rows[first : first + SEGMENT_BATCH_SIZE] for first in range(0, len(rows) if is_range else 0, SEGMENT_BATCH_SIZE)
    ]
    return units + sum(read_units(sum(item_size(*each) for each in page), consistent=False) for page in pages)


def of_baseline(person: Person, *, is_range: bool) -> float:
    """A query, of whole pages for a range. Its default is eventually consistent and costs half."""
    sizes = [_size(each) for each in items(person)]
    requested = sizes if is_range else sizes[-1:]
    return sum(read_units(page, consistent=False) for page in _pages(requested))


def _size(item: Item) -> int:
    return item_size(("", ""), item) - _KEYS


def _pages(sizes: Sequence[int]) -> list[int]:
    pages = [0]
    for size in sizes:
        if pages[-1] + size > PAGE:
            pages.append(0)
        pages[-1] += size
    return pages
