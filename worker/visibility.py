"""Search attributes: registered before the worker polls, or left out."""

import contextlib
import logging

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.service import RPCError

from workflows import visibility

log = logging.getLogger(__name__)

Attributes = dict[str, "IndexedValueType.ValueType"]


async def register(client: Client) -> bool:
    """Make the search attributes known to the namespace; gives whether all of them are.

    Where that is not allowed, workflows leave them out: one that sets an unknown attribute would stall.
    """
    wanted: Attributes = {
        key.name: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD for key in visibility.KEYWORDS
    }
    wanted |= {key.name: IndexedValueType.INDEXED_VALUE_TYPE_INT for key in visibility.INTEGERS}
    try:
        missing = await _missing(client, wanted)
        if missing:
            await client.operator_service.add_search_attributes(
                AddSearchAttributesRequest(namespace=client.namespace, search_attributes=missing)
            )
    except RPCError as error:
        # Another worker may have been first.
        with contextlib.suppress(RPCError):
            if not await _missing(client, wanted):
                return True
        log.warning("search attributes are left out: they cannot be registered (%s)", error.message)
        return False
    return True


async def _missing(client: Client, wanted: Attributes) -> Attributes:
    known = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace)
    )
    return {name: kind for name, kind in wanted.items() if name not in known.custom_attributes}
