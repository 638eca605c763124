"""`Idempotency-Key`: the same request again gets the first answer again."""

import re
from typing import TYPE_CHECKING, Annotated

from fastapi import Header, Request
from fastapi.responses import JSONResponse

from domain.idempotency import Answer, Claim, fingerprint

if TYPE_CHECKING:
    from storage.keys import Principal

KEY_PATTERN = r"^[\x21-\x7e]{1,255}$"
KEY = re.compile(KEY_PATTERN)
IdempotencyKey = Annotated[
    str | None,
    Header(
        pattern=KEY_PATTERN,
        description="The same key and body again within 24 hours gives the first answer again; "
        "another body is a CONFLICT.",
    ),
]


async def claim_of(request: Request, principal: "Principal", key: str | None) -> Claim | None:
    """The caller's claim on this request, None where it brought no key."""
    if key is None:
        return None
    target = f"{request.method} {request.url.path}?{request.url.query}"
    return Claim(principal.id, key, fingerprint(target, await request.body()))


def json_answer(answer: Answer) -> JSONResponse:
    """An answer as it is sent."""
    return JSONResponse(answer.body, status_code=answer.status)
