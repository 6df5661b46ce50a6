"""``bg-ingest`` that loses a share of its hints to other replicas, if the file ``LOST_HINTS`` has a number.

python -m tests.long.chaos.lossy_hints run
"""

import os
import random
from pathlib import Path

from bg_ingest import cli
from bg_ingest.adapters.rabbitmq import hints
from bg_ingest.ports import Hint


class LossyHints(hints.RabbitHints):
    """Hints of which a share is not sent."""

    share = 0.0

    def send(self, hint: Hint) -> None:
        if random.random() >= self.share:
            super().send(hint)


def main() -> None:
    file = Path(os.environ["LOST_HINTS"])  # noqa: TID251 - no setting of the service
    if file.exists():
        LossyHints.share = float(file.read_text())
        hints.RabbitHints = LossyHints  # type: ignore[misc]  # wiring imports it when it is needed
    cli.main()


if __name__ == "__main__":
    main()
