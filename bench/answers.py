"""What the stub answers, as pure functions: the same for the same request, so that rows lost or wrong are counted.

A sampled text depends on the prompt, the temperature, the seed and the index; a verdict on the texts that it judges.
Three prompts in four are decided by a grader that looks for WORD (hot temperatures lack it); in the fourth part no
text has it, all four tie, and a rubric judge is asked about each: 4 samples and 1 verdict a prompt in the mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from zlib import crc32

TEMPERATURES = (0.3, 0.7, 1.0, 1.3)
WORD = "willows"
MODEL, JUDGE = "fake-1", "fake-judge-1"
HEAVY = "At length: "
"""A prompt that begins so is ten times as long as others, and so are its answers."""
COLD = 0.9
_NUMBER = "village number "
_TIED_OF = 4
_TALK = "the river runs past an old stone mill where children fish and nobody counts the hours until evening " * 40
_FORMS = [_TALK[i * 7 % 90 :][: 111 + 4 * i] for i in range(64)]
"""Answers of 120 to 372 characters, 246 in the mean: budgets meet requests of unequal cost."""
_LONG = [(form * 10)[: 10 * len(form) - 90] for form in _FORMS]
_BEGIN, _END = "BEGIN ANSWER", "\nEND ANSWER"


def prompt_of(i: int, heavy: bool = False) -> str:
    """The `i`-th prompt, of about 100 characters; heavy: ten times that."""
    text = f"Tell me in three sentences what a traveller should know about {_NUMBER}{i} before noon."
    return f"{HEAVY}{text} {_TALK[: 9 * len(text)]}" if heavy else text


def number_of(content: str) -> int:
    """Which prompt a request is about; -1 for one that is about none."""
    at = content.find(_NUMBER)
    return int(content[at + len(_NUMBER) :].split(" ", 1)[0]) if at >= 0 else -1


def is_tied(prompt: str) -> bool:
    """The grader finds no best and worst among its texts."""
    return crc32(prompt.encode()) % _TIED_OF == 0


def text_of(prompt: str, temperature: float, seed: int, index: int) -> str:
    of_prompt = crc32(prompt.encode())
    drawn = crc32(b"%d %d %d" % (temperature * 1000, seed, index), of_prompt)
    talk = (_LONG if prompt.startswith(HEAVY) else _FORMS)[drawn & 63]
    word = WORD if temperature < COLD and of_prompt % _TIED_OF else "poplars"
    return f"{drawn:08x} {word} {talk}"


def grade_of(text: str) -> int:
    """The digit that the judge gives, 1 to 9."""
    return crc32(text.encode()) % 9 + 1


def ends_of(texts: list[str]) -> tuple[int, int]:
    """The places of best and worst, from 0."""
    ranked = sorted(range(len(texts)), key=lambda i: (grade_of(texts[i]), i))
    return ranked[-1], ranked[0]


def judged(content: str) -> Iterator[str]:
    """The texts between the fences of a judge's prompt."""
    at = 0
    while (begin := content.find(_BEGIN, at)) >= 0:
        begin = content.index("\n", begin) + 1
        at = content.index(_END, begin)
        yield content[begin:at]


def verdict_of(content: str) -> str:
    """One text is graded; of several, best and worst are named, counted from 1."""
    texts = list(judged(content))
    if len(texts) == 1:
        return f"Read with care, and weighed as told.\nVERDICT: {grade_of(texts[0])}"
    best, worst = ends_of(texts)
    return f"Read with care, and weighed as told.\nVERDICT: {best + 1} {worst + 1}"


def question(prompt: str, texts: list[str]) -> str:
    """The judge's prompt of the scripts: all answers in one request."""
    shown = "\n\n".join(f"BEGIN ANSWER {i}\n{text}\nEND ANSWER {i}" for i, text in enumerate(texts, 1))
    return (
        "You compare answers of an assistant to one request. Which is the most helpful and correct, which the least? "
        "Write one to three sentences of reasons. Then write one last line, VERDICT: and the numbers of the best and "
        f"of the worst answer.\n\nTHE CONVERSATION\n\n{prompt}\n\nTHE ANSWERS\n\n{shown}"
    )


def is_question(content: str) -> bool:
    return "VERDICT" in content


def n_tokens(text: str) -> int:
    """Four characters a token, rounded up."""
    return -(-len(text) // 4)
