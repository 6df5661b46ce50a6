"""Output that cannot be written: pipe closed, disk full, terminal gone."""

import io


class FailingOutput(io.StringIO):
    """Text stream whose writes raise these faults in turn. Without any they succeed."""

    def __init__(self, *faults: OSError) -> None:
        super().__init__()
        self.faults = [*faults]

    def write(self, text: str, /) -> int:
        if not self.faults:
            return super().write(text)
        self.faults.append(self.faults.pop(0))
        raise self.faults[-1]
