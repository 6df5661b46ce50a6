"""The unchanged service that keeps no segments in memory: the cost of ranges that are not requested again.

python -m tests.long.benchmarks.nothing_kept run
"""

from functools import partialmethod

from bg_ingest.cli import main
from bg_ingest.services.queries.kept_segments import KeptSegments

if __name__ == "__main__":
    KeptSegments.__init__ = partialmethod(KeptSegments.__init__, max_bytes=0)  # type: ignore[assignment]
    main()
