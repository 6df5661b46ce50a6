"""All items of a table, and those that mention a word."""

from bg_ingest.ports.table import Item, Key, Table


async def read_all_items(table: Table) -> dict[Key, Item]:
    return {key: item async for page in table.scan(0, 1) for key, item in page}


async def find_mentions(table: Table, *words: str) -> dict[Key, Item]:
    """Return the items with one of the words in a key or a value."""
    items = await read_all_items(table)
    return {key: item for key, item in items.items() if any(word in _text(key, item) for word in words)}


def _text(key: Key, item: Item) -> str:
    values = (value.decode("latin-1") if isinstance(value, bytes) else str(value) for value in item.values())
    return "\n".join((*key, *values))
