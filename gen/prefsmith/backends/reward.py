"""Reward models over vLLM's `/classify` route: a conversation's body, the reply's raw number, and proof that it is raw.

A server that does not know `use_activation` answers with HTTP 200 and a sigmoid all the same, so each model is asked
its first conversation twice, with and without. Nothing here opens a connection.
"""

from __future__ import annotations

import math
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from prefsmith.errors import CallFailed
from prefsmith.reasons import Reason
from prefsmith.records import Generated, Json, Reply, Request, Usage

SAME: float = 1e-4
"""Single precision, and a batch of another size."""


class _Slim(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Data(_Slim):
    probs: list[float | None]


class _Usage(_Slim):
    prompt_tokens: int | None = None


class _Classified(_Slim):
    data: list[_Data]
    usage: _Usage | None = None
    model: str | None = None


def url_of(base_url: str) -> str:
    """Where a server whose chat is under …/v1 classifies: beside that, not under it."""
    parts = urlsplit(base_url)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/").removesuffix("/v1") + "/classify"))


def body_of(request: Request, activated: bool = False) -> dict[str, Json]:
    body: dict[str, Json] = {
        "model": request.model,
        "messages": list(request.messages),
        "use_activation": activated,
        "add_generation_prompt": False,
    }
    return body | ({"tools": list(request.tools)} if request.tools else {})


def reply_of(raw: bytes, request_id: str | None = None) -> Reply:
    """Raises CallFailed for what is no reply of a model with one output."""
    try:
        read = _Classified.model_validate_json(raw)
    except ValidationError:
        raise _refused("HTTP 200 without `data` and `probs`: is there vLLM's /classify route?", request_id) from None
    if len(read.data) != 1:
        raise _refused(f"{len(read.data)} results for one conversation", request_id)
    return reply_with(
        read.data[0].probs, read.usage.prompt_tokens if read.usage else None, read.model, request_id, http_status=200
    )


def reply_with(
    values: list[float | None], n_prompt_tokens: int | None, model: str | None, request_id: str | None,
    *, http_status: int | None = None, fingerprint: str | None = None,
) -> Reply:  # fmt: skip
    """The reply of a head with one output. Raises CallFailed for any other head."""
    if len(values) != 1:
        raise _refused(f"the model has {len(values)} outputs and a reward is one", request_id)
    generated = Generated(0, {"role": "assistant", "content": ""}, "stop", 0, value=values[0])
    return Reply((generated,), Usage(n_prompt_tokens, None, 0), model, fingerprint, request_id, http_status)


def check_raw(raw: float | None, activated: float | None, model: str) -> None:
    """Raises CallFailed when the server gave the same number with and without activation, and it could be either."""
    if raw is None or activated is None or not math.isclose(raw, activated, rel_tol=SAME, abs_tol=SAME):
        return
    if 0 <= raw <= 1:
        raise _refused(
            f"{model!r} gives {raw:.4f} with and without `use_activation`, so its rewards may be squeezed into 0 to 1 "
            "(vLLM before 0.11 calls the field `activation`); a newer vLLM gives raw rewards"
        )


def _refused(detail: str, request_id: str | None = None) -> CallFailed:
    return CallFailed(Reason.BAD_REQUEST, detail, http_status=200, request_id=request_id, stops_endpoint=True)
