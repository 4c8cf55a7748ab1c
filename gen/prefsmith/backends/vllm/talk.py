"""What goes in and what comes out, in vLLM's own values: a prompt's tokens, sampling parameters, a reply.

Prompts are rendered as vLLM's server renders them, so that both ways of running it sample the same. Every sampling
value is stated; vLLM's default for the length of an answer is 16 tokens.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from prefsmith.backends.replies import apart, held, read_calls
from prefsmith.errors import CallFailed
from prefsmith.reasons import Reason
from prefsmith.records import Generated, Json, Message, Reply, Request, Usage

_CUT_OFF = ("abort", "error", None)
N_RENDERED = 64
"""Conversations whose tokens are kept: the cells of a grid ask the same one, one after the other."""


class Talk:
    def __init__(self, llm: Any, args: Mapping[str, Json], thinks: bool = False) -> None:
        """`llm`: a started AsyncLLM; `thinks`: thoughts end with `</think>` even where nothing opens them. Raises
        ValueError, TypeError or KeyError for an unknown parser."""
        from vllm import __version__
        from vllm.parser import ParserManager
        from vllm.renderers.chat_utils import load_chat_template
        from vllm.renderers.params import ChatParams

        self.n_ctx_tokens = int(llm.model_config.max_model_len)
        self._renderer = llm.renderer
        self._tokenizer = llm.get_tokenizer()
        self._model_config = llm.model_config
        self._params = ChatParams(load_chat_template(args.get("chat_template")))
        self._template: dict[str, Json] = dict(args.get("default_chat_template_kwargs") or {})
        self._thinks, self._counts = thinks, bool(args.get("reasoning_parser"))
        self._tools = args.get("tool_call_parser")
        self._parser = ParserManager.get_parser(
            tool_parser_name=self._tools,
            reasoning_parser_name=args.get("reasoning_parser"),
            enable_auto_tools=self._tools is not None,
            model_name=llm.model_config.model,
            tokenizer=self._tokenizer,
        )
        self._fingerprint = f"vllm-{__version__}"
        self._rendered: OrderedDict[tuple[int, int], tuple[Request, list[int]]] = OrderedDict()

    def asked(self, request: Request) -> tuple[Json, Any, dict[str, Json]]:
        """The prompt, the parameters and the options of `AsyncLLM.generate`. Raises CallFailed when it cannot be
        asked."""
        if request.kind != "chat":
            detail = f"this engine cannot answer a {request.kind!r} request"
            raise CallFailed(Reason.BAD_REQUEST, detail, stops_endpoint=True)
        if request.tools and self._tools is None:
            raise CallFailed(
                Reason.BAD_REQUEST,
                "prompts with tools need to know how this model writes a call: set args: {tool_call_parser: …}",
                stops_endpoint=True,
            )
        tokens = self._tokens(request)
        n_asked = request.sampling.max_tokens
        if len(tokens) + n_asked > self.n_ctx_tokens:
            raise CallFailed(
                Reason.CONTEXT_TOO_LONG,
                f"the prompt has {len(tokens)} tokens and {n_asked} are wanted for the answer; the model holds "
                f"{self.n_ctx_tokens} together",
            )
        prompt = {"type": "token", "prompt_token_ids": tokens}
        return prompt, self._sampling(request), self._thinking(request, tokens)

    def _tokens(self, request: Request) -> list[int]:
        # By identity: a prompt's messages are one value for all cells that ask it; the request is kept, so that no
        # other value can take the place of its parts.
        key = (id(request.messages), id(request.tools))
        if (known := self._rendered.get(key)) is not None:
            return known[1]
        template = {"add_generation_prompt": True, "continue_final_message": False, **self._template}
        if request.tools:
            template["tools"] = list(request.tools)
        params = self._params.with_defaults(template)
        _, (prompt,) = self._renderer.render_chat([[_shown(m) for m in request.messages]], params)
        tokens: list[int] = prompt["prompt_token_ids"]
        self._rendered[key] = (request, tokens)
        if len(self._rendered) > N_RENDERED:
            self._rendered.popitem(last=False)
        return tokens

    def _sampling(self, request: Request) -> Any:
        from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

        sampling = request.sampling
        greedy = sampling.temperature == 0
        return SamplingParams(
            # A greedy answer has no draw in it, and vLLM refuses to give the same one n times.
            n=1 if greedy else request.n,
            seed=None if greedy else request.seed,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            repetition_penalty=sampling.repetition_penalty,
            max_tokens=sampling.max_tokens,
            min_tokens=0,
            ignore_eos=False,
            stop=list(sampling.stop),
            stop_token_ids=[],
            logprobs=0 if request.logprobs else None,
            flat_logprobs=request.logprobs,
            skip_special_tokens=self._skips_special(request),
            structured_outputs=StructuredOutputsParams(json=request.schema) if request.schema is not None else None,
            output_kind=RequestOutputKind.FINAL_ONLY,
            skip_clone=True,
        )

    def _thinking(self, request: Request, tokens: list[int]) -> dict[str, Json]:
        """Where a schema begins to bind: after the thoughts, which some templates leave out."""
        if request.schema is None or self._parser is None:
            return {}
        parser = self._parsing(self._as_wire(request))
        if parser.reasoning_parser is None:
            return {}
        return {
            "reasoning_ended": parser.is_reasoning_end(tokens),
            "reasoning_parser_kwargs": {"chat_template_kwargs": self._template},
        }

    def _skips_special(self, request: Request) -> bool:
        """Some parsers find a call or a thought by tokens that nobody else should see."""
        if self._parser is None:
            return True
        wanted = self._as_wire(request)
        return bool(self._parsing(wanted).adjust_request(wanted).skip_special_tokens)

    def read(self, out: Any, request: Request) -> Reply:
        """The reply; an aborted or failed text is no choice. Raises CallFailed when no choice is left."""
        choices = [] if out is None else [c for c in out.outputs if c.finish_reason not in _CUT_OFF]
        if not choices:
            words = sorted({str(c.finish_reason) for c in out.outputs}) if out is not None else ["nothing"]
            reason = Reason.INTERRUPTED if words == ["abort"] else Reason.SERVER_ERROR
            raise CallFailed(reason, f"no choice was finished (finish_reason {', '.join(words)})")
        read = [self._generated(c, request, out.prompt_token_ids) for c in choices]
        n_thought = sum(n for _, n in read) if self._counts else None
        usage = Usage(
            len(out.prompt_token_ids),
            out.num_cached_tokens,
            sum(len(c.token_ids) for c in out.outputs),
            n_thought,
        )
        generated = tuple(held(one, request.schema) for one, _ in read)
        return Reply(generated, usage, request.model, self._fingerprint, out.request_id)

    def _generated(self, choice: Any, request: Request, prompt: Sequence[int]) -> tuple[Generated, int]:
        """The choice, and how many of its tokens are known to be thoughts."""
        finish_reason, calls, n_thought = choice.finish_reason, None, 0
        if self._parser is None:
            reasoning, content = apart(choice.text, self._thinks)
        else:
            reasoning, content, calls, n_thought = self._parsed(choice, request, prompt)
        message: Message = {"role": "assistant", "content": content}
        if calls:
            message["tool_calls"] = calls
            finish_reason = "tool_calls" if finish_reason == "stop" else finish_reason
        elif content is None:
            message["content"] = ""
        # Thoughts that were not counted, and sums over both, say nothing of the answer.
        n_tokens = None if reasoning and not n_thought else len(choice.token_ids) - n_thought
        logprob_sum = choice.cumulative_logprob if request.logprobs and not reasoning else None
        return Generated(choice.index, message, finish_reason, n_tokens, reasoning or None, logprob_sum), n_thought

    def _parsed(
        self, choice: Any, request: Request, prompt: Sequence[int]
    ) -> tuple[str | None, str | None, list[Json], int]:
        """Reasoning, content and tool calls, and the tokens of the reasoning."""
        wanted = self._as_wire(request)
        parser = self._parsing(wanted)
        parser.set_prompt_token_ids(prompt)
        reasoning, content, calls = parser.parse(
            choice.text, wanted, enable_auto_tools=bool(request.tools), model_output_token_ids=choice.token_ids
        )
        written = [
            {"id": f"call_{i}", "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
            for i, c in enumerate(calls or ())
        ]
        return reasoning or None, content, read_calls(written), parser.count_reasoning_tokens(choice.token_ids)

    def _parsing(self, wanted: Any) -> Any:
        return self._parser(
            self._tokenizer, wanted.tools, model_config=self._model_config, chat_template_kwargs=self._template
        )

    def _as_wire(self, request: Request) -> Any:
        """As much of the request as a parser looks at, as vLLM's server would have it."""
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

        tools = list(request.tools) if request.tools else None
        turn = [{"role": "user", "content": ""}]
        return ChatCompletionRequest(messages=turn, tools=tools, tool_choice="auto" if tools else "none")


def _shown(message: Message) -> Json:
    """A template writes None as a word; beside tool calls there is no content."""
    return {**message, "content": ""} if message["content"] is None else dict(message)
