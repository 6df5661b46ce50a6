"""The store's layout, conditions and meaning, written once over a table that any key-value store can be."""
