"""Prompts for a small chat model: everyday wishes with a condition that a program checks (grader `constraints`).

Preferences see some conditions on some topics. Held out are the same conditions on other topics (`known`), and
conditions that the pairs never had, on those other topics (`new`).
"""

from __future__ import annotations

import json
import random
from pathlib import Path

TOPICS = (
    "a bakery", "a bicycle", "a rainy day", "the moon", "a lighthouse", "tea", "a train station", "snow", "a violin",
    "the sea", "a market", "a library", "a garden", "an umbrella", "a mountain", "breakfast", "a cat", "a bridge",
    "a candle", "the desert", "a school", "a river", "honey", "a clock", "an island", "a forest", "a kite", "bread",
    "a doctor", "a football", "a museum", "an old car", "a farm", "chocolate", "a mirror", "a whale", "a telescope",
    "the wind", "a sofa", "a pencil", "a volcano", "a hospital", "a guitar", "an apple", "a penguin", "a castle",
    "a newspaper", "a swimming pool", "winter", "a chess game", "a robot", "a lemon", "a carpet", "a balloon",
    "a firefighter", "a spoon", "a waterfall", "the city at night", "a tractor", "a wedding",
)  # fmt: skip
TRAINED = {
    "slogan": ("Write a slogan about {}, eight words at most.", {"words_max": 8}),
    "twelve": ("Describe {} in at most 12 words.", {"words_max": 12}),
    "eighty": ("Say something nice about {} in at most 80 characters.", {"chars_max": 80}),
    "bullets": ("Write exactly two bullet points about {}, each starting with a dash.", {"bullets": 2}),
    "no_comma": ("Tell me something about {} without using any comma.", {"no_char": ","}),
    "numbered": ("List three things about {}, numbered 1. to 3.", {"numbered": 3}),
    "one": ("Explain {} in exactly one sentence.", {"sentences": 1}),
    "two": ("Explain {} in exactly two sentences.", {"sentences": 2}),
}
HELD_OUT = {
    "twenty": ("Tell a child about {} in fewer than 20 words.", {"words_max": 19}),
    "sixty": ("Write a caption for a picture of {}, 60 characters at most.", {"chars_max": 60}),
    "three_bullets": ("Give me three bullet points on {}, each line starting with a dash.", {"bullets": 3}),
    "four_numbered": ("Name four facts about {} as a list numbered 1. to 4.", {"numbered": 4}),
    "three": ("Write about {} in exactly three sentences.", {"sentences": 3}),
    "question": ("Ask me one question about {} and write nothing else.", {"sentences": 1, "question": True}),
    "lines": ("Write a poem of exactly four lines about {}.", {"lines": 4}),
    "no_the": ('Describe {} without using the word "the".', {"avoid": ["the"]}),
}


def write_prompts(folder: Path, seed: int, n_train: int, n_eval: int) -> None:
    """train.jsonl, new.jsonl, known.jsonl; a topic is in the training or held out, never both."""
    topics = list(TOPICS)
    random.Random(seed).shuffle(topics)
    half = len(topics) // 2
    _write(folder / "train.jsonl", TRAINED, topics[:half], n_train, seed)
    _write(folder / "new.jsonl", HELD_OUT, topics[half:], n_eval, seed)
    _write(folder / "known.jsonl", TRAINED, topics[half:], n_eval, seed)


def _write(
    path: Path, conditions: dict[str, tuple[str, dict[str, object]]], topics: list[str], n: int, seed: int
) -> None:
    grid = [(name, topic) for name in conditions for topic in topics]
    random.Random(seed + 1).shuffle(grid)
    rows = [
        {
            "id": f"{name}-{topic.replace(' ', '-')}",
            "prompt": conditions[name][0].format(topic),
            "category": name,
            "check": conditions[name][1],
        }
        for name, topic in grid[:n]
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
