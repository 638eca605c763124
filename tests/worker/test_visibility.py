"""Search attributes: made known once, whoever else does so at the same time, or left out."""

import asyncio
import uuid
from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from infra.embedded import EmbeddedStack
from tests.waiting import until
from worker import visibility
from workflows.visibility import INTEGERS, KEYWORDS


async def client_of_a_new_namespace(stack: EmbeddedStack, temporal: Client) -> Client:
    """Where no search attribute is known yet."""
    name = f"test-{uuid.uuid4()}"
    retention = Duration()
    retention.FromTimedelta(timedelta(days=1))
    await temporal.workflow_service.register_namespace(
        RegisterNamespaceRequest(namespace=name, workflow_execution_retention_period=retention)
    )
    client = await Client.connect(stack.temporal_address, namespace=name)

    async def known() -> bool:
        try:
            await attributes(client)
        except RPCError:
            return False
        return True

    await until(known)
    return client


async def attributes(client: Client) -> set[str]:
    listed = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace)
    )
    return set(listed.custom_attributes)


async def test_workers_that_register_at_once_all_find_the_attributes(
    stack: EmbeddedStack, temporal: Client
) -> None:
    client = await client_of_a_new_namespace(stack, temporal)
    wanted = {key.name for key in (*KEYWORDS, *INTEGERS)}
    assert not wanted & await attributes(client)
    assert await asyncio.gather(*(visibility.register(client) for _ in range(5))) == [True] * 5
    assert wanted <= await attributes(client)
    assert await visibility.register(client)


async def test_where_they_cannot_be_registered_they_are_left_out(
    stack: EmbeddedStack, caplog: pytest.LogCaptureFixture
) -> None:
    client = await Client.connect(stack.temporal_address, namespace="unknown-to-the-server")
    assert await visibility.register(client) is False
    assert "search attributes are left out" in caplog.text
