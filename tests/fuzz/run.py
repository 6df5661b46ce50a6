"""``python -m tests.fuzz.run [pages] [first seed]``: mutated pages for a poller, on all cores; 1 if one does harm.

A seed that is given makes the same page again: ``python -m tests.fuzz.run 100 SEED`` (users begin at full hundreds).
"""

import logging
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import anyio
import structlog

from tests.fuzz.provider import PAGES_A_USER, FuzzVerdict, fuzz

PAGES = 100_000
SHARE = 10 * PAGES_A_USER
"""Pages per task of a process."""


def share(first: int, pages: int) -> FuzzVerdict:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    return anyio.run(fuzz, range(first, first + pages))


def main(pages: int = PAGES, first: int = 0) -> int:
    """Print a summary of all pages, and every page that did harm."""
    began, outcomes, whole = time.monotonic(), Counter[str](), FuzzVerdict()
    starts = range(first, first + pages, SHARE)
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        shares = processes.map(share, starts, [min(SHARE, first + pages - start) for start in starts])
        for number, verdict in enumerate(shares, 1):
            outcomes.update(verdict.outcomes)
            whole.pages += verdict.pages
            whole.stored += verdict.stored
            whole.revised += verdict.revised
            whole.quarantined += verdict.quarantined
            whole.findings += verdict.findings
            for finding in verdict.findings:
                sys.stdout.write(f"\nseed {finding.seed}: {finding.what}\n{finding.body!r}\n")
            sys.stderr.write(f"\r{min(number * SHARE, pages)} of {pages} pages")
    summary = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    sys.stdout.write(
        f"\n{whole.pages} pages in {time.monotonic() - began:.0f} s: {summary}; {whole.stored} readings stored "
        f"({whole.revised} of them revisions), {whole.quarantined} records set aside; {len(whole.findings)} did harm\n"
    )
    return 1 if whole.findings or whole.pages < pages else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
