"""What a reply becomes: rows for the ledger, and the change of what is known once they are committed.

Each function adds its rows at once and returns what to do after the commit. Text ids are known at once (two replies
of one group may hold the same text), results only afterwards: nothing is asked about an uncommitted completion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from prefsmith.errors import CallFailed
from prefsmith.judging.expect import tail
from prefsmith.judging.verdicts import Step, next_step
from prefsmith.ledger.ids import NO_READS, reads_hash, text_hash
from prefsmith.ledger.known import Completion, Known, Tried, Work
from prefsmith.ledger.ledger import NO_READS_ID, Ledger
from prefsmith.ledger.read import as_kept
from prefsmith.ledger.writer import Rows
from prefsmith.outcomes import Artifact, Choice, Judged, Ranking, Score
from prefsmith.reasons import FINAL_CALL, Reason
from prefsmith.records import Generated, Json, Reply, Usage, canonical
from prefsmith.stages.calls import Asked, Gives, Graded, Sampled

Landed = Callable[[], Sequence[Judged]]
"""To be called after the commit; returns the verdicts that are known from then on."""


class Sent(NamedTuple):
    """How a request went: what its call row says beside the reply."""

    target: str
    endpoint: str
    attempt: int
    t_sent: float
    wall_s: float
    cost_nanousd: int | None = None


class Desk:
    """The open group of rows of one ledger; `work` and `known` of each call come with it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def sampled(
        self, rows: Rows, work: Work, known: Known, call: Sampled, reply: Reply, sent: Sent, seed: int
    ) -> Landed:
        """Keep the choices that came; indices beyond them stay owed, filtered ones are closed. `seed`: of the first."""
        call_id = self._ledger.take_id("call")
        cell, got, closed, damaged = call.cell, {}, [], []
        base = seed - call.idx[0]
        for choice in reply.choices:
            idx = call.idx[choice.place]
            if choice.finish_reason == "content_filter":
                closed.append(idx)
                continue
            text = self._text(rows, known, canonical(choice.message))
            damaged += [text] if choice.damaged else []
            n_chars = len(choice.message.get("content") or "")
            thought = choice.reasoning if cell.keeps_reasoning else None
            got[idx] = Completion(text, n_chars, choice.finish_reason, choice.n_tokens, base + idx, thought)
            rows.completion.append(
                (work.id, cell.sampler, idx, text, n_chars, thought, base + idx, choice.finish_reason,
                 choice.n_tokens, choice.logprob_sum, "sampled", None, call_id)
            )  # fmt: skip
        extra = {"damaged": damaged} if damaged else None
        self._call(rows, call_id, work, call, list(got), "ok", None, sent, reply=reply, extra=extra)
        if closed:
            # The provider billed one request; the second row only names what it closed.
            free = sent._replace(cost_nanousd=None)
            self._call(rows, self._ledger.take_id("call"), work, call, closed, "failed", Reason.CONTENT_FILTER, free)
            rows.counts[f"calls.failed.{Reason.CONTENT_FILTER}"] += 1
        rows.counts["completions"] += len(got)

        def landed() -> Sequence[Judged]:
            known.completions.update({(cell.sampler, i): c for i, c in got.items()})
            known.closed.update({(cell.sampler, i): Reason.CONTENT_FILTER for i in closed})
            known.damaged.update(damaged)
            return ()

        return landed

    def judged(
        self, rows: Rows, work: Work, known: Known, call: Asked, reply: Reply, sent: Sent, n_broken: int = 0
    ) -> Landed:
        """Read the verdict; what cannot be read becomes a verdict only when no step is left. `n_broken`: control tokens
        in what was shown."""
        assert call.leaf.asks is not None
        generated = reply.choices[0]
        result = call.leaf.asks.read(generated, len(call.shown))
        call_id, key, tried, final = self._ledger.take_id("call"), call.key, list[Tried](), True
        if result.reason is not None:
            tried = [*known.tried.get(key, ()), Tried(call.step, result.reason, generated)]
            final = next_step([(Step(t.step), t.reason) for t in tried]) is None
        self._call(
            rows, call_id, work, call, None, "ok", result.reason, sent, reply=reply, generated=generated,
            reads=self._reads(rows, known, call.reads), extra={"control_tokens": n_broken} if n_broken else None,
        )  # fmt: skip
        if final:
            version = call.leaf.asks.read_version
            self._verdict(rows, work, known, call, call.shown, call.repeat, result, version, call_id)

        def landed() -> Sequence[Judged]:
            if tried:
                known.tried[key] = tried
            if not final:
                return ()
            known.verdicts[key] = result
            return () if _read_list(result) else (result,)

        return landed

    def graded(self, rows: Rows, work: Work, known: Known, call: Graded, scores: Sequence[Score]) -> Landed:
        """Keep a grader's scores: verdicts without a call."""
        assert call.leaf.grader is not None
        version = call.leaf.grader.read_version
        for text, result in zip(call.texts, scores, strict=True):
            self._verdict(rows, work, known, call, (text,), 0, result, version, None)

        def landed() -> Sequence[Judged]:
            judge, reads = call.leaf.judge, call.reads
            known.verdicts.update({(judge, reads, (t,), 0): r for t, r in zip(call.texts, scores, strict=True)})
            return scores

        return landed

    def failed(
        self, rows: Rows, work: Work, known: Known, call: Sampled | Asked, error: CallFailed, sent: Sent
    ) -> Landed:
        """Keep a failed attempt; a final reason closes its units, an owed one leaves them missing."""
        call_id = self._ledger.take_id("call")
        final = error.reason in FINAL_CALL and not error.stops_endpoint
        reads = self._reads(rows, known, call.reads) if isinstance(call, Asked) else None
        idx = list(call.idx) if isinstance(call, Sampled) else None
        # A missing model is a bad request to the server and owed to us: only final reasons stand in `reason` as such.
        reason = error.reason if final or error.reason.owed else Reason.AUTH
        self._call(
            rows, call_id, work, call, idx, "failed", reason, sent, reads=reads, error=error,
            extra={"detail": error.detail[:500]},
        )  # fmt: skip
        rows.counts[f"calls.failed.{reason}"] += 1
        result: Judged | None = None
        if final and isinstance(call, Asked):
            result = nothing(call.leaf.gives, reason)
            version = call.leaf.asks.read_version if call.leaf.asks else 0
            self._verdict(rows, work, known, call, call.shown, call.repeat, result, version, call_id)

        def landed() -> Sequence[Judged]:
            if result is not None and isinstance(call, Asked):
                known.verdicts[call.key] = result
                return (result,)
            if final and isinstance(call, Sampled):
                known.closed.update({(call.cell.sampler, i): reason for i in call.idx})
            return ()

        return landed

    def _text(self, rows: Rows, known: Known, body: bytes) -> int:
        if (found := known.text_ids.get(body)) is not None:
            return found
        new = self._ledger.take_id("text")
        known.add_text(new, body)
        rows.text.append((new, text_hash(body), body.decode()))
        return new

    def _reads(self, rows: Rows, known: Known, of: bytes) -> int:
        if of == NO_READS:
            return NO_READS_ID
        if (found := known.reads.get(of)) is None:
            found = known.reads[of] = self._ledger.take_id("reads")
            rows.reads.append((found, of))
        return found

    def _verdict(
        self, rows: Rows, work: Work, known: Known, call: Asked | Graded, shown: tuple[int, ...], repeat: int,
        result: Judged, version: int, call_id: int | None,
    ) -> None:  # fmt: skip
        if isinstance(result, Artifact) and result.lines is not None:
            body = canonical(list(result.lines))
            of = next(one.id for one in work.items if reads_hash(one.item, call.leaf.reads) == call.reads)
            rows.artifact.append((of, "list", call.leaf.judge, body.decode(), text_hash(body), call_id))
            return
        reads, reason, texts = self._reads(rows, known, call.reads), result.reason, ",".join(map(str, shown))
        rows.counts["verdicts"] += 1
        if isinstance(result, Score) and reason is None and repeat == 0 and result.p is None:
            parts = None if result.parts is None else canonical(result.parts).decode()
            rows.score.append((work.id, call.leaf.judge, reads, texts, result.value, parts, version, call_id))
            return
        rows.verdict.append(
            (work.id, call.leaf.judge, reads, texts, repeat, *columns_of(result), reason, version, call_id)
        )  # fmt: skip
        if reason is not None:
            rows.counts[f"no_verdict.{reason}"] += 1

    def _call(
        self, rows: Rows, call_id: int, work: Work, call: Sampled | Asked, idx: list[int] | None, status: str,
        reason: Reason | None, sent: Sent, *, reply: Reply | None = None, generated: Generated | None = None,
        reads: int | None = None, error: CallFailed | None = None, extra: Json = None,
    ) -> None:  # fmt: skip
        usage = reply.usage if reply else Usage()
        if isinstance(call, Sampled):
            stage, sampler, judge = "sample", call.cell.sampler, None
            unit = f'{{"idx":[{",".join(map(str, idx or ()))}]}}'
        else:
            stage, sampler, judge = call.leaf.role, None, call.leaf.judge
            shown = ",".join(map(str, call.shown))
            unit = f'{{"reads":{reads},"repeat":{call.repeat},"shown":[{shown}],"step":"{call.step}"}}'
        kept = None if generated is None else _kept(generated)
        said, said_hash = (None, None) if kept is None else (kept.decode(), text_hash(kept))
        session = self._ledger.session
        if reply is not None and reason is None and extra is None:
            rows.answered.append(
                (call_id, session, work.id, stage, sampler, judge, unit, sent.attempt, sent.target, sent.endpoint,
                 reply.model_reported, reply.fingerprint, reply.http_status, reply.request_id, sent.t_sent,
                 sent.wall_s, *usage, sent.cost_nanousd, said, said_hash)
            )  # fmt: skip
        else:
            of: Reply | CallFailed | None = reply if reply is not None else error
            rows.call.append(
                (call_id, session, work.id, stage, sampler, judge, unit, status, reason, sent.attempt, sent.target,
                 sent.endpoint, reply.model_reported if reply else None, reply.fingerprint if reply else None,
                 of.http_status if of else None, of.request_id if of else None, None, sent.t_sent, sent.wall_s,
                 *usage, sent.cost_nanousd, 1 if error and error.maybe_billed else 0, said, said_hash,
                 None if extra is None else canonical(extra).decode())
            )  # fmt: skip
        if status == "ok":
            counts = rows.counts
            counts["calls.ok"] += 1
            counts["tokens.prompt"] += usage.n_prompt_tokens or 0
            counts["tokens.completion"] += usage.n_completion_tokens or 0


def columns_of(result: Judged) -> tuple[str, float | None, float | None, str | None, str | None, str | None]:
    """A verdict's kind, value, p, choice, ranking and parts, as its row holds them."""
    match result:
        case Choice():
            return "choice", None, result.p, None if result.position is None else str(result.position), None, None
        case Ranking():
            order = None if result.order is None else canonical([list(group) for group in result.order]).decode()
            return "ranking", None, None, None, order, None
        case Artifact():
            return "list", None, None, None, None, None
    parts = None if result.parts is None else canonical(result.parts).decode()
    return "score", result.value, result.p, None, None, parts


def nothing(gives: Gives, reason: Reason) -> Judged:
    """No verdict, in the shape that a leaf gives."""
    match gives:
        case "choice":
            return Choice(reason=reason)
        case "ranking":
            return Ranking(reason=reason)
        case "list":
            return Artifact(reason=reason)
    return Score(reason=reason)


def _read_list(result: Judged) -> bool:
    """A list is no verdict, unless it could not be read."""
    return isinstance(result, Artifact) and result.reason is None


def _kept(generated: Generated) -> bytes:
    """A judge's reply as it is stored; of its tokens those that a verdict is read from."""
    return as_kept(generated if generated.tokens is None else generated._replace(tokens=tail(generated.tokens)))
