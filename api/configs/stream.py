"""A configuration as it changes, for whoever would rather be told than ask."""

import secrets
from collections.abc import AsyncGenerator
from dataclasses import replace

from api.configs.reader import ReadTarget
from api.configs.rendering import Rendered
from api.streaming import Stream
from domain.errors import NotFound


async def follow(stream: Stream, target: ReadTarget) -> AsyncGenerator[Rendered, None]:
    """What the target is answered at present, and again whenever that changes.

    Without a unit the stream is one of its own: it draws once per rollout, and stays with its draw.
    """
    target = replace(target, unit=target.unit or secrets.token_hex(16))
    reader, known = stream.server.configs, ""
    while stream.open:
        changed = stream.server.snapshot.changed.next()
        try:
            rendered, lapse = reader.read(target), reader.lapses_in(target)
        except NotFound:
            # The first configuration was taken back, and there is nothing to inherit any more.
            await stream.wait(changed)
            continue
        if rendered.etag != known:
            known = rendered.etag
            yield rendered
        await stream.wait(changed, seconds=lapse)
