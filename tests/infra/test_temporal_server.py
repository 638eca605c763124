import time
import uuid
from datetime import timedelta

import pytest
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, GetClusterInfoRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.testing import TimeSkipper
from temporalio.worker import Worker

from infra.embedded import EmbeddedStack
from infra.temporal_binary import OLDEST_SERVER
from tests.infra.nap import NAP_SECONDS, Nap


@pytest.fixture
async def client(stack: EmbeddedStack) -> Client:
    return await Client.connect(stack.temporal_address)


async def test_a_nap_of_twenty_minutes_takes_seconds(client: Client) -> None:
    skipper = TimeSkipper(client)
    began = time.monotonic()
    async with Worker(client, task_queue="naps", workflows=[Nap]):
        slept = await skipper.client.execute_workflow(
            Nap.run, id=f"nap-{uuid.uuid4()}", task_queue="naps", execution_timeout=timedelta(hours=1)
        )
    assert slept >= NAP_SECONDS
    assert time.monotonic() - began < NAP_SECONDS / 2


async def test_a_search_attribute_is_usable_as_soon_as_it_is_added(client: Client) -> None:
    key = SearchAttributeKey.for_keyword("OptTested")
    await client.operator_service.add_search_attributes(
        AddSearchAttributesRequest(
            namespace="default",
            search_attributes={key.name: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD},
        )
    )
    attributes = TypedSearchAttributes([SearchAttributePair(key, "yes")])
    handle = await client.start_workflow("Any", id="found", task_queue="none", search_attributes=attributes)
    found = await handle.describe()
    assert found.typed_search_attributes.get(key) == "yes"
    assert [item.id async for item in client.list_workflows('OptTested = "yes"')] == ["found"]


async def test_the_server_is_new_enough_and_keeps_histories_for_days(client: Client) -> None:
    cluster = await client.workflow_service.get_cluster_info(GetClusterInfoRequest())
    version = tuple(map(int, cluster.server_version.split(".")))
    assert version >= OLDEST_SERVER
    namespace = await client.workflow_service.describe_namespace(
        DescribeNamespaceRequest(namespace="default")
    )
    assert namespace.config.workflow_execution_retention_ttl.ToTimedelta() >= timedelta(days=1)
