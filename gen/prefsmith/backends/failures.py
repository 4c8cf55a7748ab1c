"""The one place where a provider's errors become reasons.

    429                                     rate_limited (with what Retry-After says), or quota when it is used up
    402; 403, 429 with insufficient_quota   quota, stops the endpoint
    401, 403                                auth, stops the endpoint, and names where the key comes from
    404, 405, 3xx                           bad_request, stops the endpoint: the model or the URL is wrong
    400 and others with a context's length  context_too_long
    4xx with a content filter's code        content_filter
    408, 409, 425, 5xx                      server_error (with what Retry-After says)
    any other 4xx                           bad_request
    no connection, a request cut short      connection
    no reply in time                        timeout, maybe billed unless the request was not sent in full
    cut after that, or no HTTP at all       connection, maybe billed

Details are raw here; the backend runs `redacted` over each before anyone sees it, so that none ever holds a key.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from prefsmith.backends.quota import quota_of
from prefsmith.errors import CallFailed
from prefsmith.reasons import Reason
from prefsmith.records import Json

if TYPE_CHECKING:
    import httpx2
    import openai

MAX_DETAIL_CHARS = 300
_MAY_SAY_WHEN = (Reason.RATE_LIMITED, Reason.SERVER_ERROR)
_BEARER = re.compile(r"(?i)\b(bearer|basic|api[-_]?key['\"]?\s*[:=])\s*['\"]?[^\s'\",}]+")
_QUOTA = ("insufficient_quota", "billing_hard_limit_reached", "quota_exceeded", "insufficient_balance")
_FILTER = ("content_filter", "content_policy_violation", "responsibleaipolicyviolation")
_CONTEXT_CODES = ("context_length_exceeded", "exceed_context_size_error")
# OpenAI "maximum context length", vLLM the same and "maximum model length", llama.cpp "available context size".
_CONTEXT_WORDS = re.compile(r"(?i)context (length|size|window)|maximum model length|max_model_len|prompt is too long")


def redacted(text: str, secrets: Sequence[str]) -> str:
    """The text in one line of at most `MAX_DETAIL_CHARS`, without any of the secrets."""
    for secret in secrets:
        text = text.replace(secret, "***")
    text = " ".join(_BEARER.sub(r"\1 ***", text).split())
    return text if len(text) <= MAX_DETAIL_CHARS else text[: MAX_DETAIL_CHARS - 1] + "…"


def from_status(status: int, body: Json, headers: Mapping[str, str], model: str, key_name: str | None) -> CallFailed:
    """What an HTTP status other than 2xx means. `body`: the error object, or the text that came instead."""
    codes, message = _told(body)
    reason, stops = _reason(status, codes, message)
    detail = f"HTTP {status} for model {model!r}: {message or 'no explanation'}"
    if reason is Reason.AUTH:
        detail = f"HTTP {status}, the key in {key_name or 'no variable (the endpoint names no key_env)'}: {message}"
    elif reason is Reason.QUOTA:
        detail = f"HTTP {status}, the quota of {key_name or 'the endpoint'} is used up: {message}"
    return CallFailed(
        reason,
        detail,
        http_status=status,
        request_id=headers.get("x-request-id"),
        retry_after_s=retry_after_s(headers) if reason in _MAY_SAY_WHEN else None,
        stops_endpoint=stops,
        quota=quota_of(headers),
    )


def _reason(status: int, codes: Sequence[str], message: str) -> tuple[Reason, bool]:
    """The reason, and whether nothing else can succeed at this endpoint."""
    if status == 402 or (status in (403, 429) and any(c in _QUOTA for c in codes)):
        return Reason.QUOTA, True
    if status == 429:
        return Reason.RATE_LIMITED, False
    if status == 401 or (status == 403 and not any(c in _FILTER for c in codes)):
        return Reason.AUTH, True
    # Final for nobody's prompt: a wrong model or URL is the recipe's fault, so the work stays owed.
    if status in (404, 405) or status < 400:
        return Reason.BAD_REQUEST, True
    if any(c in _FILTER for c in codes):
        return Reason.CONTENT_FILTER, False
    if any(c in _CONTEXT_CODES for c in codes) or (status in (400, 422) and _CONTEXT_WORDS.search(message)):
        return Reason.CONTEXT_TOO_LONG, False
    if status in (408, 409, 425) or status >= 500:
        return Reason.SERVER_ERROR, False
    return Reason.BAD_REQUEST, False


def _told(body: Json) -> tuple[list[str], str]:
    """The words in `code` and `type`, lower case, and the message."""
    if isinstance(body, Mapping):
        inner = body.get("error")
        if isinstance(inner, Mapping):
            body = inner
        codes = [str(body[k]).lower() for k in ("code", "type") if body.get(k) is not None]
        return codes, str(body.get("message") or body.get("detail") or inner or "")
    return [], "" if body is None else str(body)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long a 429 asked us to wait, in seconds: retry-after-ms, else Retry-After (seconds or a date)."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            wait_s = float(value) * unit_s
        except ValueError:
            try:
                wait_s = parsedate_to_datetime(value).timestamp() - time.time()
            except (TypeError, ValueError):
                continue
        if wait_s == wait_s and wait_s != float("inf"):
            return max(0.0, wait_s)
    return None


def refused_field(body: Json, fields: Iterable[str]) -> str | None:
    """Which field of a request a 400 names, in its `param` or its message; the longest name first, for `n` is short."""
    inner = body.get("error", body) if isinstance(body, Mapping) else {}
    param = str(inner.get("param") or "").rpartition(".")[2] if isinstance(inner, Mapping) else ""
    names = sorted(fields, key=len, reverse=True)
    if param in names:
        return param
    message = _told(body)[1]
    return next((name for name in names if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", message)), None)


def from_openai(error: openai.OpenAIError, *, model: str, url: str, key_name: str | None) -> CallFailed:
    """Translate what the SDK raised. Its causes are httpx2's, which say how far the request had come."""
    import httpx2
    import openai

    if isinstance(error, openai.APIStatusError):
        response = error.response
        return from_status(response.status_code, error.body, response.headers, model, key_name)
    if isinstance(error.__cause__, httpx2.TransportError):
        return from_transport(error.__cause__, url)
    return CallFailed(Reason.SERVER_ERROR, f"{type(error).__name__} from {url}: {error}")


def from_transport(error: httpx2.TransportError, url: str) -> CallFailed:
    """Translate what the transport raised: what had not been sent in full cost nothing."""
    import httpx2

    if isinstance(error, httpx2.ReadTimeout | httpx2.WriteTimeout):
        billed = isinstance(error, httpx2.ReadTimeout)
        return CallFailed(Reason.TIMEOUT, f"no whole reply from {url} in time", maybe_billed=billed)
    if isinstance(error, httpx2.ReadError | httpx2.RemoteProtocolError):
        return CallFailed(Reason.CONNECTION, f"the connection to {url} broke: {error}", maybe_billed=True)
    if isinstance(error, httpx2.WriteError):
        return CallFailed(Reason.CONNECTION, f"the connection to {url} broke before the request was sent: {error}")
    # aiohttp names its TLS settings even where there is no TLS.
    told = str(error).replace(" ssl:default", "") or type(error).__name__
    return CallFailed(Reason.CONNECTION, f"no connection to {url}: {told}")
