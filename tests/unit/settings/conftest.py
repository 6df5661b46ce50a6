from tests.harness.settings import folder as folder  # noqa: PLC0414 - fixtures
from tests.harness.settings import load as load  # noqa: PLC0414 - fixtures
from tests.harness.settings import names as names  # noqa: PLC0414 - fixtures
