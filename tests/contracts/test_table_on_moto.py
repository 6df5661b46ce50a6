"""The table on moto, over either transport: a second emulation of DynamoDB's semantics.

Limited to tests that moto passes. Its conditions treat true as 1, and it loses concurrent updates.
"""

from collections.abc import AsyncIterator

import pytest

from bg_ingest.adapters.dynamodb import aioboto3_transport, transport
from bg_ingest.adapters.dynamodb.table import DynamoTable
from tests.contracts import test_table as suite
from tests.fakes.dynamodb import AWS
from tests.integration.servers import DynamoServer

test_types = suite.test_what_is_put_is_read_back_with_its_types
test_conditions_that_hold = suite.test_a_condition_that_holds_lets_the_write_through
test_conditions_without_an_item = suite.test_these_conditions_hold_where_there_is_no_item
test_conditions_that_need_an_item = suite.test_the_others_do_not
test_all_or_nothing = suite.test_a_transaction_writes_nothing_when_one_condition_fails_and_names_all_that_do
test_limits = suite.test_a_transaction_takes_no_key_twice_and_no_more_than_a_hundred_writes
test_updates = suite.test_an_update_may_create_where_no_condition_forbids_it
test_queries = suite.test_a_query_is_ascending_bounded_on_both_ends_and_paged
test_empty_queries = suite.test_a_query_that_finds_nothing_has_no_pages
test_deletes = suite.test_many_are_deleted_whether_they_are_there_or_not


@pytest.fixture(params=[transport, aioboto3_transport], ids=["direct", "aioboto3"])
async def table(request: pytest.FixtureRequest, moto_server: str) -> AsyncIterator[DynamoTable]:
    async with DynamoServer(moto_server, AWS, request.param.open_transport).new_table() as opened:
        yield opened
