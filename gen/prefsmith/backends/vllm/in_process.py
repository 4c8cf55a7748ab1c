"""One vLLM engine beside this process, spoken to by vLLM's own AsyncLLM: no HTTP, one request for n answers.

It is started in a thread (loading takes minutes), asked in the event loop, and told how it went by nothing but what
comes back: an aborted text is no answer, a dead engine is `Died`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prefsmith.backends.failures import from_status, redacted
from prefsmith.backends.vllm import arguments, children
from prefsmith.backends.vllm.supervise import Died
from prefsmith.backends.vllm.talk import Talk
from prefsmith.endpoints import Vllm
from prefsmith.errors import CallFailed, ProviderError, UsageError
from prefsmith.reasons import Reason
from prefsmith.records import Reply, Request

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest

_DEFAULTS: Mapping[str, str] = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    # Said at each start of an engine, about vLLM's own use of torch.
    "PYTHONWARNINGS": "ignore::FutureWarning:vllm.triton_utils.dispatcher",
}
"""Standard output is ours, and nobody is told what is run here."""
_GONE_S: Final = 30.0


class InProcess:
    def __init__(
        self,
        model: str,
        name: str,
        vllm: Vllm,
        adapters: Mapping[str, Path],
        gpus: Sequence[int] | None,
        *,
        thinks: bool,
    ) -> None:
        """`model`: a folder or a hub's name; `name`: what requests call it; `thinks`: see Talk."""
        self._model, self._name, self._vllm, self._adapters = model, name, vllm, adapters
        self._thinks = thinks
        self._args = arguments.for_engine(model, vllm, list(adapters.values()), gpus)
        self._llm: Any = None
        self._talk: Talk | None = None
        self._lora: dict[str, LoRARequest | None] = {}
        self._ids = itertools.count()
        self._n_done = 0

    @property
    def n_ctx_tokens(self) -> int | None:
        return self._talk.n_ctx_tokens if self._talk else None

    @property
    def n_seqs(self) -> int | None:
        """Sequences that the engine holds in one step, None while it is not up."""
        if self._llm is None:
            return None
        of = self._llm.vllm_config
        return int(of.scheduler_config.max_num_seqs * of.parallel_config.data_parallel_size)

    async def start(self) -> None:
        for name, value in {**_DEFAULTS, "VLLM_ENGINE_READY_TIMEOUT_S": str(int(self._vllm.start_timeout_s))}.items():
            os.environ.setdefault(name, value)
        os.environ.update(self._vllm.env)
        # A forked engine would hold this process's files open, its locks among them.
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
        try:
            await children.started(self._make)
            self._talk = Talk(self._llm, self._vllm.args, self._thinks)
            self._lora = {self._name: None}
            for i, (name, folder) in enumerate(self._adapters.items(), 1):
                self._lora[name] = await self._loaded(name, i, folder)
        except (ValueError, TypeError) as error:
            raise UsageError(f"vLLM refuses to run {self._model!r}: {redacted(str(error), ())}") from None
        except UsageError:
            raise
        except Exception as error:
            raise ProviderError(
                f"vLLM cannot start {self._model!r}: {redacted(str(error), ())}; what it printed above says why (too "
                "little memory: lower gpu_memory_utilization, max_model_len or max_num_seqs)"
            ) from None

    def _make(self) -> None:
        from vllm.config import StructuredOutputsConfig
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM

        # vLLM 0.32 takes an object for it too, and then fails to write a reasoning_parser into it.
        of = self._args["structured_outputs_config"]
        args = self._args | {"structured_outputs_config": StructuredOutputsConfig(**of) if isinstance(of, dict) else of}
        # The batch sizes of vLLM's offline class: the plain default is 128 sequences and 2,048 tokens a step, where an
        # H100 is given 1,024 and 16,384. Kept by nobody else: what a finished thread returned lives on, and ends with a
        # traceback at our exit.
        self._llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**args), usage_context=UsageContext.LLM_CLASS)

    async def _loaded(self, name: str, i: int, folder: Path) -> LoRARequest:
        from vllm.lora.request import LoRARequest

        request = LoRARequest(name, i, str(folder))
        try:
            # Now, for an adapter that does not fit would kill the engine at the first request.
            await self._llm.add_lora(request)
        except Exception as error:
            told = redacted(str(error), ())
            raise UsageError(f"the adapter {name!r} ({folder}) does not fit {self._model!r}: {told}") from None
        return request

    async def ask(self, request: Request) -> Reply:
        """The boundary: whatever vLLM raises leaves here as CallFailed or Died."""
        llm, talk = self._llm, self._talk
        if llm is None or talk is None or llm.errored:
            raise Died
        from vllm.exceptions import GracefulHTTPError, VLLMClientError, VLLMError
        from vllm.v1.engine.exceptions import EngineDeadError

        out: Any = None
        try:
            prompt, params, options = talk.asked(request)
            adapter = self._adapter(request.model)
            answers = llm.generate(prompt, params, f"{next(self._ids)}", lora_request=adapter, **options)
            async for answer in answers:
                out = answer  # one alone: only the final one is asked for
        except CallFailed:
            raise
        except EngineDeadError:
            raise Died from None
        except GracefulHTTPError as error:
            raise CallFailed(Reason.SERVER_ERROR, f"vLLM takes no more requests: {error}") from None
        except Exception as error:
            if llm is not self._llm or llm.errored:
                raise Died from None
            cause = error.__cause__ or error
            told = redacted(f"{cause}" if isinstance(cause, VLLMError) else f"{type(cause).__name__}: {cause}", ())
            # xgrammar says RuntimeError of a schema that it cannot hold.
            if isinstance(cause, VLLMClientError | ValueError) or request.schema is not None:
                raise CallFailed(from_status(400, str(cause), {}, request.model, None).reason, told) from None
            raise CallFailed(Reason.SERVER_ERROR, told) from None
        self._n_done += 1
        return talk.read(out, request)

    def _adapter(self, model: str) -> LoRARequest | None:
        if model not in self._lora:
            known = ", ".join(self._lora)
            raise CallFailed(
                Reason.BAD_REQUEST, f"the engine has no model {model!r} (it has {known})", stops_endpoint=True
            )
        return self._lora[model]

    async def pulse(self) -> Hashable:
        """Answers given, and tokens of those under way: with final outputs only, nobody else would see them come."""
        llm = self._llm
        if llm is None or llm.errored:
            raise Died
        try:
            states = llm.output_processor.request_states.values()
            n_tokens = sum(s.detokenizer.num_output_tokens() for s in states if s.detokenizer is not None)
        except AttributeError:
            n_tokens = 0  # another vLLM: answers alone must do
        return (self._n_done, n_tokens)

    async def stop(self, wait_s: float) -> None:
        llm, self._llm, self._talk = self._llm, None, None
        if llm is None:
            return
        if llm.output_handler is not None:
            # It would take the end of the engine for its death, and log a traceback.
            llm.output_handler.cancel()
        await asyncio.to_thread(_shut, llm, wait_s)


def _shut(llm: Any, wait_s: float) -> None:
    """vLLM 0.32 kills an engine that takes longer and does not wait for its end, nor for the device's memory."""
    manager = getattr(getattr(llm.engine_core, "resources", None), "engine_manager", None)
    processes = [*getattr(manager, "processes", ())]
    llm.shutdown(wait_s)
    for process in processes:
        process.join(_GONE_S)
