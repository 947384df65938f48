"""Which spans does a worker make of what it noted? Without Kafka, Redis, or OpenTelemetry."""

from __future__ import annotations

from embedmq_schemas.names import Names
from embedmq_schemas.trace_context import TraceContext, write
from embedmq_worker.config import Tracing as Settings
from embedmq_worker.jobs import Outcome
from embedmq_worker.metrics import Metrics
from embedmq_worker.trace import MAX_LINKS, Allowance, Computed, Ended, Loading, Noted, Place, Span, Trace, begin, child
from embedmq_worker.tracing import Tracing
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.jobs import make_embedded, make_job, make_record

UNIX_NS = 1_700_000_000_000_000_000
CALLER = TraceContext(0xA, 0xB)
ENDED = Ended(8.0, 9.0, "ok", ["stream"], 1, 3, 12, tried_again=False)


def noted(parent: TraceContext | None = CALLER, *, share: float = 0.0, id: str = "r") -> Trace | None:
    place = Place(id, "t.m.bulk", 2, 7, "t.bulk", UNIX_NS // 1_000_000 + 500, "m", "bulk", "acme", 1)
    return begin(parent, share, place, UNIX_NS, 1.0)


def traced() -> Trace:
    trace = noted()
    assert trace is not None
    return trace


def by_word(spans: list[Span]) -> dict[str, Span]:
    return {span.name.split()[0]: span for span in spans}


@given(st.lists(st.floats(1.0, 8.0), min_size=4, max_size=4).map(sorted), st.booleans())
def test_each_span_lies_within_the_one_above_it(moments: list[float], absent: bool) -> None:
    """Whatever the moments of one request are, if only they follow each other."""
    trace = traced()
    laid_aside_s, loaded_s, cut_s, trace.began_s = moments
    if absent:
        trace.absent_s = laid_aside_s
        trace.loading, trace.loaded_here = Loading("m", laid_aside_s, loaded_s, child(trace.wait)), True
    trace.cut_s, trace.cutting_s = cut_s, cut_s - loaded_s
    trace.computed_s, trace.ended = 8.0, ENDED
    spans = trace.spans()
    of = {span.own.span_id: span for span in spans}
    assert {span.own.trace_id for span in spans} == {CALLER.trace_id}
    for span in spans:
        assert span.start_ns <= span.end_ns, span.name
        if span.parent is not None and span.parent != CALLER:
            above = of[span.parent.span_id]
            assert above.start_ns <= span.start_ns, span.name
            assert span.end_ns <= above.end_ns, span.name
    assert by_word(spans)["process"].parent == CALLER


def test_a_request_that_reached_no_device_was_queued_until_its_answer_was_delivered() -> None:
    """So it is for one that is refused, late or cancelled: there is no `encode`, and the error has its code."""
    trace = traced()
    trace.ended = Ended(8.0, 9.0, "deadline_exceeded", ["stream"], 1, 0, 0, tried_again=False)
    of = by_word(trace.spans())
    assert of.keys() == {"process", "queue", "deliver"}
    assert of["queue"].end_ns == of["deliver"].start_ns
    assert of["process"].error == "deadline_exceeded"


def test_a_clock_ahead_of_ours_makes_no_negative_wait() -> None:
    """Kafka's timestamp is another machine's: a request begins when it was read, at the latest."""
    trace = traced()
    place = Place("r", "t", 0, 0, "g", UNIX_NS // 1_000_000 + 3_600_000, "m", "bulk", "", 1)
    ahead = begin(CALLER, 0.0, place, UNIX_NS, 1.0)
    assert ahead is not None
    trace.ended = ahead.ended = ENDED
    assert by_word(trace.spans())["queue"].start_ns == UNIX_NS + 500_000_000
    assert by_word(ahead.spans())["queue"].start_ns == UNIX_NS + 1_000_000_000


def test_the_callers_flag_decides_and_only_what_has_none_is_drawn_by_its_id() -> None:
    """Every worker that tries a request draws alike, and puts it into the same trace."""
    assert noted(TraceContext(0xA, 0xB, 0), share=1.0) is None
    assert noted(None) is None
    drawn = {id: noted(None, share=0.25, id=id) for id in map(str, range(2_000))}
    again = {id: noted(None, share=0.25, id=id) for id in drawn}
    found = {id: trace.process.trace_id for id, trace in drawn.items() if trace is not None}
    assert found == {id: trace.process.trace_id for id, trace in again.items() if trace is not None}
    assert 400 < len(found) < 600
    assert len(set(found.values())) == len(found)
    (trace, *_) = (trace for trace in drawn.values() if trace is not None)
    trace.ended = ENDED
    assert by_word(trace.spans())["process"].parent is None


def test_whatever_callers_sample_so_many_requests_are_traced_a_second_and_the_others_are_counted() -> None:
    """Each is traced whole or not at all, and what a trace costs is bounded by a setting."""
    metrics, put = Metrics(), list[Noted]()
    tracing = Tracing(put.append, Names("t"), {}, Settings(max_per_s=5), metrics)
    jobs = [make_job(str(number)) for number in range(40)]
    for job in jobs:
        job.record = make_record(headers=write(CALLER))
        tracing.begin(job, "interactive")
    found = [job for job in jobs if job.trace is not None]
    assert len(found) >= 5
    assert metrics.registry.get_sample_value("embedmq_requests_untraced_total") == len(jobs) - len(found)
    tracing.delivered([Outcome(job, make_embedded(job.envelope.id)) for job in jobs], 0.1)
    assert put == [job.trace for job in found]
    allowance = Allowance(5)
    assert [sum(allowance.take(second + share / 40) for share in range(40)) for second in range(3)] == [5, 5, 5]


def test_links_are_bounded_and_say_how_many_there_are() -> None:
    """A batch of a thousand requests is one span like any other."""
    requests = [child(CALLER) for _ in range(1_000)]
    (span,) = Computed(child(requests[0]), "m", UNIX_NS, 1.0, 2.0, requests, 1_000, {}).spans()
    assert len(span.links) == MAX_LINKS
    assert span.attributes["embedmq.batch.requests"] == 1_000
    assert span.parent == requests[0]
    trace = traced()
    trace.began_s, trace.computed_s, trace.ended = 2.0, 8.0, ENDED
    trace.batches = [child(CALLER) for _ in range(300)]
    encode = by_word(trace.spans())["encode"]
    assert (len(encode.links), encode.attributes["embedmq.batches"]) == (MAX_LINKS, 300)


def test_who_waited_for_a_load_that_is_in_another_trace_links_to_it() -> None:
    """A model is loaded once, however many wait."""
    trace = traced()
    elsewhere = TraceContext(0xC, 0xD)
    trace.absent_s, trace.loading, trace.ended = 1.5, Loading("m", 1.0, 2.0, elsewhere), ENDED
    of = by_word(trace.spans())
    assert "load" not in of
    assert of["wait"].links == [elsewhere]
