"""Tokens by which chat templates open and close turns, and the question whether a text holds one.

Inside a user's text most servers parse such a token as the real thing: the text breaks out of its turn. What is
listed are the marks of turns, of tool exchanges and of the sequence's ends; marks that a person may well write about
and that end no turn (<think>, [IMG], [PREFIX]) are left to the model's own list, which the caller adds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import groupby

_CHATML_QWEN = """<|im_start|> <|im_end|> <|im_sep|> <|endoftext|> <|endofprompt|> <|startoftext|> <|object_ref_start|>
<|object_ref_end|> <|box_start|> <|box_end|> <|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|>
<|vision_pad|> <|image_pad|> <|video_pad|> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|>
<|file_sep|>"""
_LLAMA_2_MISTRAL = """<s> </s> <unk> [INST] [/INST] <<SYS>> <</SYS>> [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_CALLS]
[TOOL_RESULTS] [/TOOL_RESULTS] [TOOL_CONTENT] [SYSTEM_PROMPT] [/SYSTEM_PROMPT]"""
_LLAMA_3_4 = """<|begin_of_text|> <|end_of_text|> <|start_header_id|> <|end_header_id|> <|eot_id|> <|eom_id|>
<|python_tag|> <|finetune_right_pad_id|> <|header_start|> <|header_end|> <|eot|> <|eom|> <|step|> <|python_start|>
<|python_end|>"""
_GEMMA = """<bos> <eos> <pad> <start_of_turn> <end_of_turn> <start_of_image> <end_of_image> <|turn> <turn|> <|channel>
<channel|> <|tool> <tool|> <|tool_call> <tool_call|> <|tool_response> <tool_response|>"""
# Phi shares its words with the bundled model and with Zephyr, GLM and others.
_PHI_BUNDLED = """<|system|> <|user|> <|assistant|> <|end|> <|pad|> <|tool|> <|/tool|> <|tool_call|> <|/tool_call|>
<|tool_response|> <|observation|>"""
# Fullwidth bars (U+FF5C) and, between words, U+2581, as in DeepSeek's own tokenizer.
_DEEPSEEK = """<｜begin▁of▁sentence｜> <｜end▁of▁sentence｜> <｜▁pad▁｜> <｜User｜> <｜Assistant｜> <｜System｜> <|EOT|>
<｜tool▁calls▁begin｜> <｜tool▁calls▁end｜> <｜tool▁call▁begin｜> <｜tool▁call▁end｜> <｜tool▁outputs▁begin｜>
<｜tool▁outputs▁end｜> <｜tool▁output▁begin｜> <｜tool▁output▁end｜> <｜tool▁sep｜> <｜fim▁begin｜> <｜fim▁hole｜>
<｜fim▁end｜>"""
_HARMONY = "<|start|> <|message|> <|channel|> <|constrain|> <|return|> <|call|>"
_OTHERS = """<|START_OF_TURN_TOKEN|> <|END_OF_TURN_TOKEN|> <|USER_TOKEN|> <|CHATBOT_TOKEN|> <|SYSTEM_TOKEN|> <|im_user|>
<|im_assistant|> <|im_system|> <|im_middle|> <|start_of_role|> <|end_of_role|> [gMASK]"""

CONTROL_TOKENS: frozenset[str] = frozenset(
    " ".join((_CHATML_QWEN, _LLAMA_2_MISTRAL, _LLAMA_3_4, _GEMMA, _PHI_BUNDLED, _DEEPSEEK, _HARMONY, _OTHERS)).split()
)
"""Of ChatML and Qwen, Llama 2 to 4, Mistral, Gemma, Phi, DeepSeek, harmony (GPT-OSS), Cohere, Kimi, Granite, GLM and
the bundled model."""


def finder(tokens: Iterable[str]) -> Callable[[str], str | None]:
    """A function that answers the first of these tokens in a text, or None."""
    # A model may list a blank as a control token; every text holds one, so it can tell nothing.
    wanted = sorted(token for token in tokens if token.strip())
    if not wanted:
        return lambda text: None
    # Branches are grouped by their first two characters: a text full of `<` would else try 150 of them at each.
    groups = (
        re.escape(head) + "(?:" + "|".join(re.escape(token[2:]) for token in group) + ")"
        for head, group in groupby(wanted, key=lambda token: token[:2])
    )
    search = re.compile("|".join(groups)).search
    starts = sorted({token[0] for token in wanted})

    def find(text: str) -> str | None:
        for start in starts:
            if start in text:
                found = search(text)
                return found.group() if found else None
        return None

    return find
