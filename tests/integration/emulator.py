"""ministack as a store of many writers needs it: no transaction is stored in part, and no row is lost.

As it comes, a thread takes away what has expired once a minute while requests are carried out: a partition that was
empty a moment ago goes with the row that was just put into it. And after each write of a transaction the whole table is
counted, which fails in the middle when that thread has just changed it, and takes the longer the more there is.
"""

from typing import Any

from ministack import app
from ministack.services import dynamodb


def _nothing(*_: Any) -> None: ...


def main() -> None:
    dynamodb._update_counts = _nothing
    type(dynamodb._tables).get_scoped = _nothing  # how that thread finds a table, and streams, which nobody has here
    app.main()


if __name__ == "__main__":
    main()
