"""One backend for every server that speaks OpenAI's chat completions: api.openai.com, Azure, vLLM, llama.cpp, proxies.

The openai package authenticates, finds the address and names its errors; retries, waiting and rates are not its
business here. Only its public API is used: the body goes in as a mapping, the response comes back as bytes, over a
transport of ours; where the headers never change the SDK is asked for them once. It does not know prompts, keys of the
ledger or what a reply is for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import orjson

from prefsmith.backends import wire
from prefsmith.backends.access import Access
from prefsmith.backends.can import Can
from prefsmith.backends.failures import from_openai, from_transport, redacted
from prefsmith.backends.probe import NOTHING, Declared, probed, usage_of
from prefsmith.backends.quota import quota_of
from prefsmith.backends.replies import reply_of
from prefsmith.errors import CallFailed
from prefsmith.reasons import Reason
from prefsmith.records import Capabilities, Json, Message, Reply, Request, Sampling, Usage

if TYPE_CHECKING:
    import openai

    from prefsmith.backends.fast import Fast
    from prefsmith.backends.transport import Answer, Transport

PATH = "/chat/completions"
LISTING_S = 5.0
"""The list of models only mends a message, which should not wait for it."""
N_LISTED = 8


class OpenAICompatible:
    def __init__(
        self,
        access: Access,
        *,
        target: str,
        endpoint: str,
        server: wire.Server,
        capabilities: Capabilities,
        declared: Declared = NOTHING,
        fast: bool = True,
    ) -> None:
        """`endpoint`: the name under which calls are counted; `fast` False sends each request through the SDK."""
        self.target = target
        self.endpoint = endpoint
        self._access = access
        self._server: wire.Server = server
        self._capabilities = capabilities
        self.declared = declared
        self._by_sdk = not (fast and access.fast)
        self._transport: Transport | None = None
        self._client: openai.AsyncOpenAI | None = None
        self._fast: Fast | None = None
        self._options: Any = {}
        self._models: asyncio.Task[list[str]] | None = None
        self.adopt(declared.can())

    async def open(self, longest: Sequence[tuple[Message, ...]], extra_tokens: int) -> None:
        del longest, extra_tokens  # a server far away was started with the context that it has
        if self._client is not None:
            return
        from prefsmith.backends.fast import Fast
        from prefsmith.backends.transport import Transport, make_room

        make_room(self._capabilities.concurrency)

        access = self._access
        self._transport = Transport(access.url, access.route, access.timeout_s)
        self._client = access.client(self._transport)
        self._options = {"headers": access.without()}
        self._fast = None if self._by_sdk else Fast(self._client, self._transport, self._options)

    def capabilities(self) -> Capabilities:
        return self._capabilities

    def facts(self) -> Mapping[str, Json]:
        """`key`: the variable or program that it comes from."""
        access = self._access
        return {
            "url": access.url,
            "key": access.key_name,
            "server": self._server,
            "max_tokens_field": self._can.max_tokens_field,
        }

    @property
    def can(self) -> Can:
        return self._can

    @property
    def premises(self) -> Json:
        """What a finding about a model there was found under: it says nothing under others."""
        return {"url": self._access.url, "server": self._server, "declared": asdict(self.declared)}

    def adopt(self, can: Can) -> None:
        """Shape every further request by what the model can do."""
        self._can = can
        self._fields: dict[Sampling, Mapping[str, Json]] = {}
        if not can.n:
            self._capabilities = replace(self._capabilities, n_per_request=1)

    async def probe(self, model: str) -> tuple[Can, Usage]:
        """Find out what is not declared, by at most two tiny requests that are answered, and what they took. Raises
        CallFailed when the server cannot be asked at all; `adopt` is another step."""
        answers: list[bytes] = []

        async def post(body: dict[str, Json]) -> Answer:
            answer = await self._exchange(body, model)
            answers.append(answer.content)
            return answer

        try:
            can = await probed(post, model, self._server, self.declared)
        except Exception as error:
            failed = self._clean(await self._translated(error, model))
            failed.maybe_billed = failed.maybe_billed or bool(answers)
            raise failed from None
        return can, usage_of(answers)

    def refusal(self, sampling: Sampling) -> str | None:
        """Why no request can ask for this, as far as is known; None when it can."""
        try:
            self._sampling(sampling)
        except CallFailed as error:
            return error.detail
        return None

    async def send(self, request: Request) -> Reply:
        try:
            body = wire.body_of(request, self._sampling(request.sampling), self._can)
            answer = await self._exchange(body, request.model)
            headers = answer.headers
            return reply_of(
                answer.content,
                request.n,
                content_type=headers.get("content-type", ""),
                request_id=headers.get("x-request-id"),
                quota=quota_of(headers),
                thinks=self._can.reasoning == "think",
                schema=request.schema,
            )
        except Exception as error:
            raise self._clean(await self._translated(error, request.model)) from None

    async def _exchange(self, body: dict[str, Json], model: str) -> Answer:
        """A 2xx. A key that was refused is made anew once: such a request cost nothing."""
        key = self._access.key
        if key is None or isinstance(key, str):
            return await self._post(body)
        import openai

        used = await key()
        try:
            return await self._post(body)
        except openai.AuthenticationError:
            key.expire(used)
            return await self._post(body)

    async def _post(self, body: dict[str, Json]) -> Answer:
        if self._fast is not None:
            return await self._fast.post(PATH, body)
        if self._client is None:
            raise RuntimeError("a backend is opened before it sends")
        import httpx2

        from prefsmith.backends.transport import ANSWER

        response = await self._client.post(PATH, cast_to=httpx2.Response, body=body, options=self._options)
        answer: Answer = response.extensions[ANSWER]
        return answer

    async def _translated(self, error: Exception, model: str) -> CallFailed:
        """The boundary: whatever else was raised leaves here as CallFailed; what is a bug stays what it is."""
        import httpx2
        import openai

        if isinstance(error, CallFailed):
            return error
        if isinstance(error, httpx2.TransportError):
            return from_transport(error, self._access.url)
        if isinstance(error, UnicodeEncodeError | orjson.JSONEncodeError):
            return CallFailed(Reason.BAD_REQUEST, f"the request is no UTF-8: {error}")
        if not isinstance(error, openai.OpenAIError):
            raise error
        failed = from_openai(error, model=model, url=self._access.url, key_name=self._access.key_name)
        if failed.http_status == 404:
            failed.detail = f"{await self._told_models(model)}; {failed.detail}"
        return failed

    def _clean(self, failed: CallFailed) -> CallFailed:
        failed.detail = redacted(failed.detail, self._access.secrets)
        failed.args = (f"{failed.reason}: {failed.detail}",)
        return failed

    async def _told_models(self, model: str) -> str:
        """Which models there are, for one that is not among them: the list is asked for once."""
        if self._models is None:
            self._models = asyncio.create_task(self._listed())
        names = await asyncio.shield(self._models)
        url = self._access.url
        if not names:
            return f"{model!r} was not found at {url}, which lists no models (is the URL right?)"
        if model in names:
            return f"{url} lists {model!r} and yet"
        near = get_close_matches(model, names, n=1, cutoff=0.6)
        shown = ", ".join(names[:N_LISTED]) + (f" and {len(names) - N_LISTED} more" if len(names) > N_LISTED else "")
        return f"{url} has no model {model!r}; {f'did you mean {near[0]!r}? ' if near else ''}it lists {shown}"

    async def _listed(self) -> list[str]:
        """The names of the models; none when the server does not say."""
        import httpx2
        import openai

        assert self._client is not None
        try:
            async with asyncio.timeout(LISTING_S):
                response = await self._client.get("/models", cast_to=httpx2.Response, options=self._options)
            return sorted(str(entry["id"]) for entry in orjson.loads(response.content)["data"])
        except (openai.OpenAIError, TimeoutError, CallFailed, ValueError, LookupError, TypeError):
            return []

    def _sampling(self, sampling: Sampling) -> Mapping[str, Json]:
        """The body's sampling part, made once for each cell of the grid."""
        fields = self._fields.get(sampling)
        if fields is None:
            fields = self._fields[sampling] = wire.sampling_fields(sampling, self._server, self._can)
        return fields

    async def close(self) -> None:
        models, self._models = self._models, None
        if models is not None:
            models.cancel()
        client, self._client, self._fast = self._client, None, None
        if client is not None:
            await client.close()
