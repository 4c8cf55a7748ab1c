"""From a row's columns to an item: which column is the prompt, which the reference, and what else is carried.

Every value that comes in gives exactly one Row: an item, or a reason with an excerpt. Equal rows are not noticed here;
whoever keeps the items does that. It does not know which format a row came from, apart from whether its cells are
text by nature (CSV), where a conversation can only be JSON inside a cell.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

import orjson

from prefsmith.errors import UsageError, did_you_mean
from prefsmith.reasons import Reason
from prefsmith.recipe import Prompts
from prefsmith.records import Item, Json, Message, Prompt, Row, canonical
from prefsmith.sources.control import finder
from prefsmith.sources.messages import SetAside, conversation, texts, tool_definitions

PROMPT_COLUMNS = ("prompt", "messages", "question", "instruction", "input")
REFERENCE_COLUMNS = ("reference", "answer")
CATEGORY_COLUMNS = ("category", "kind")

EXCERPT_CHARS = 200
EXCERPT_BYTES = 2 * EXCERPT_CHARS * 4
"""Twice what 200 characters can take, since white space is collapsed afterwards."""

# orjson writes 254 levels but reads 1,024; what the ledger cannot write must not become an item. Below this many
# brackets no value can be that deep, whatever the ledger wraps around it.
_BRACKETS = 200


def excerpt(raw: bytes, detail: str = "") -> str:
    """The beginning of a row in one line of printable characters, after what was wrong with it."""
    text = raw[:EXCERPT_BYTES].decode("utf-8", "replace")
    words = f"{detail}: {text}" if detail else text
    line = " ".join(words.split())[:EXCERPT_CHARS]
    return "".join(c if c.isprintable() else "\ufffd" for c in line)


def set_aside(line: int, reason: Reason, raw: bytes, detail: str = "", source_id: str | None = None) -> Row:
    return Row(line, None, source_id, reason, excerpt(raw, detail))


class Mapper:
    """Turns the values of one source into rows."""

    def __init__(self, spec: Prompts, control_tokens: Collection[str], uri: str, *, json_cells: bool = False) -> None:
        self._uri = uri
        self._json_cells = json_cells
        self._prompt = (spec.prompt,) if spec.prompt else PROMPT_COLUMNS
        self._reference = (spec.reference,) if spec.reference else REFERENCE_COLUMNS
        self._category = (spec.category,) if spec.category else CATEGORY_COLUMNS
        self._tools = spec.tools or "tools"
        self._id = spec.id or "id"
        self._system = spec.system
        self._columns = None if spec.columns is None else tuple(spec.columns)
        self._find = finder(() if spec.allow_control_tokens else control_tokens)
        roles = {name: getattr(spec, name) for name in ("prompt", "system", "tools", "reference", "category", "id")}
        self._named = [(role, name) for role, name in roles.items() if name is not None]
        self._named += [("columns", name) for name in spec.columns or ()]

    def require(self, existing: Collection[str], where: str) -> None:
        """Raises UsageError for a column that the user named and that is not among these."""
        for role, name in self._named:
            if name not in existing:
                raise UsageError(
                    f"{self._uri!r} has no column {name!r} ({where}), which `{role}:` names; "
                    f"{did_you_mean(name, existing)}. Correct `prompts.{role}`, or leave it out."
                )

    def require_prompt(self, existing: Collection[str]) -> None:
        """Raises UsageError where a table has none of the columns that could be the prompt."""
        if not any(name in existing for name in self._prompt):
            raise UsageError(
                f"{self._uri!r} has no column {', '.join(PROMPT_COLUMNS[:-1])} or {PROMPT_COLUMNS[-1]}; "
                f"it has {', '.join(map(repr, existing))}. Name the column with the prompt under `prompts.prompt`."
            )

    def wanted(self, existing: Collection[str]) -> list[str]:
        """Those of the columns that a row of this source is made from."""
        if self._columns is None:
            return list(existing)
        mapped = (*self._prompt, *self._reference, *self._category, self._tools, self._id, self._system)
        return [name for name in existing if name in mapped or name in self._columns]

    def row(self, line: int, value: Json, raw: bytes) -> Row:
        """The row of a parsed value: an object, or a string that is the prompt. `raw`: what it was parsed from."""
        source_id = None
        try:
            if type(value) is dict:
                source_id = _as_text(_exact(value, self._id, raw))
                item = self._item(value, raw)
            elif type(value) is str:
                item = Item(Prompt((self._user(value),)))
            else:
                raise SetAside(Reason.BAD_JSON, "a row must be an object or a string")
            if raw.count(b"[") + raw.count(b"{") > _BRACKETS:
                _check_depth(item)
            return Row(line, item, source_id)
        except SetAside as why:
            return set_aside(line, why.reason, raw, why.detail, source_id)

    def _item(self, row: dict[str, Json], raw: bytes) -> Item:
        name = _first(row, self._prompt)
        if name is None:
            raise self._no_prompt(row)
        value = row[name]
        if type(value) is str and (self._json_cells or name == "messages"):
            value = _json_cell(value)
        # The system column belongs to string prompts; beside a conversation it is a column like any other.
        system = self._system if type(value) is str else None
        prompt = self._text_prompt(value, row, system) if type(value) is str else self._conversation(value)
        tools = None
        if row.get(self._tools) is not None:
            tools = self._tools
            if prompt.tools is None:
                prompt = self._with_tools(prompt, row[tools])
        reference, category = _first(row, self._reference), _first(row, self._category)
        columns: dict[str, Json]
        if self._columns is None:
            mapped = (name, self._id, reference, category, tools, system)
            columns = {k: v for k, v in row.items() if v is not None and k not in mapped}
        else:
            columns = {k: row[k] for k in self._columns if row.get(k) is not None}
        return Item(
            prompt,
            None if reference is None else _as_text(_exact(row, reference, raw)),
            None if category is None else _as_text(row[category]),
            columns,
        )

    def _no_prompt(self, row: Mapping[str, Json]) -> SetAside:
        present = [name for name in self._prompt if name in row]
        if present:
            return SetAside(Reason.EMPTY_PROMPT, f"{present[0]} is null")
        return SetAside(Reason.NO_PROMPT_FIELD, f"columns are {', '.join(row) or 'none'}")

    def _text_prompt(self, text: str, row: Mapping[str, Json], system: str | None) -> Prompt:
        instructions = None if system is None else row.get(system)
        if instructions is None:
            return Prompt((self._user(text),))
        if type(instructions) is not str:
            raise SetAside(Reason.BAD_JSON, f"{system} must be a string")
        if not instructions.strip():
            return Prompt((self._user(text),))
        self._check(instructions)
        return Prompt(({"role": "system", "content": instructions}, self._user(text)))

    def _user(self, text: str) -> Message:
        if not text or text.isspace():
            raise SetAside(Reason.EMPTY_PROMPT)
        self._check(text)
        return {"role": "user", "content": text}

    def _conversation(self, value: Json) -> Prompt:
        """A list of messages, or OpenAI's `input` object of preference rows around one."""
        if type(value) is dict and type(value.get("messages")) is list:
            parallel = value.get("parallel_tool_calls")
            if parallel is not None and type(parallel) is not bool:
                raise SetAside(Reason.BAD_JSON, "parallel_tool_calls must be true or false")
            prompt = Prompt(self._messages(value["messages"]), None, parallel)
            return self._with_tools(prompt, value.get("tools"))
        if type(value) is list:
            return Prompt(self._messages(value))
        raise SetAside(Reason.BAD_JSON, "a prompt must be a string or a list of messages")

    def _messages(self, value: list[Json]) -> tuple[Message, ...]:
        messages = conversation(value)
        for i, message in enumerate(messages, 1):
            for text in texts(message):
                self._check(text, f" in message {i}")
        return messages

    def _with_tools(self, prompt: Prompt, value: Json) -> Prompt:
        tools = tool_definitions(value)
        if tools is None:
            return prompt
        # A template writes the definitions into the prompt, so a control token breaks out of them as well.
        for text in texts(tools):
            self._check(text, " in tools")
        return Prompt(prompt.messages, tools, prompt.parallel_tool_calls)

    def _check(self, text: str, where: str = "") -> None:
        if "\x00" in text:
            raise SetAside(Reason.BAD_ENCODING, f"a NUL character{where}")
        token = self._find(text)
        if token is not None:
            raise SetAside(Reason.CONTROL_TOKEN, f"{token}{where}")


def _first(row: Mapping[str, Json], names: tuple[str, ...]) -> str | None:
    for name in names:
        if row.get(name) is not None:
            return name
    return None


def _as_text(value: Json) -> str | None:
    """A string as it is and anything else as JSON prints it; blank is None: a reference of nothing matches all."""
    if value is None:
        return None
    if type(value) is str:
        return value if value and not value.isspace() else None
    if type(value) is int:
        return str(value)  # canonical() takes 64 bits only
    try:
        return canonical(value).decode()
    except TypeError as e:
        raise SetAside(Reason.BAD_JSON, "nested too deeply") from e


def _exact(row: Mapping[str, Json], name: str, raw: bytes) -> Json:
    """The column's value, read again where the fast parser rounded it: it keeps integers of 64 bits only."""
    value = row.get(name)
    if type(value) is float and abs(value) >= 2**63:
        return json.loads(raw)[name]
    return value


def _json_cell(text: str) -> Json:
    """The conversation that a cell's text holds, or the text itself: a prompt may begin with a bracket."""
    if not text.lstrip().startswith(("[", "{")):
        return text
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    turns = value.get("messages") if type(value) is dict else value
    is_conversation = type(turns) is list and turns and all(type(t) is dict and "role" in t for t in turns)
    return value if is_conversation else text


def _check_depth(item: Item) -> None:
    try:
        canonical([[[[item.prompt.messages, item.prompt.tools, dict(item.columns)]]]])
    except TypeError as e:
        raise SetAside(Reason.BAD_JSON, "nested too deeply") from e
