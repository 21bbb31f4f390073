"""Laws that every pass obeys, on random models. A new pass is under them without a line of test.

``HYPOTHESIS_PROFILE=thorough`` searches twenty times as long, and anew each time.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count

import onnx
import pytest
from hypothesis import HealthCheck, Phase, find, given, note, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from onnxslim import Calibration, Effect, Model, Pass, Pipeline, parse, runtime, shapes, unparse
from onnxslim.base import Context, Noises
from onnxslim.ir import Array, Node
from onnxslim.registry import all_passes, help_line
from onnxslim.validate import Reference, adjustable, check_structure
from strategies import feed, graphs

PASSES = {name: kind for name, kind in all_passes().items() if not kind.once}
EVERY = pytest.mark.parametrize("kind", list(PASSES.values()), ids=list(PASSES))
LOSSLESS = [name for name, kind in PASSES.items() if kind.effect is not Effect.LOSSY]
THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"


def examples(count: int) -> settings:
    return settings(
        max_examples=20 * count if THOROUGH else count,
        derandomize=not THOROUGH,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def feeds(proto: onnx.ModelProto) -> Calibration:
    return Calibration.of([feed(proto, number) for number in range(2)])


def distance_from(original: Model) -> Callable[[Model], float]:
    def distance(model: Model) -> float:
        return reference_of(original).compare(model.to_bytes(), Effect.LOSSY, both=False).relative

    return distance


def noise_beside(original: Model) -> Callable[[Model], float]:
    return lambda model: reference_of(original).noise(model.to_bytes())


def noises_beside(original: Model) -> Noises:
    reference = functools.cache(lambda: reference_of(original))

    def noises(
        model: Model,
        names: Collection[str],
        variants: Iterable[Mapping[str, Array]],
        limit: int | None,
    ) -> Iterator[float]:
        content = adjustable(model, names).to_bytes()
        yield from reference().noises(content, variants, limit)

    return noises


def reference_of(original: Model) -> Reference:
    return Reference(original.to_bytes(), original, feeds(original.proto()))


def apply(kind: type[Pass], model: Model) -> tuple[Model, int]:
    """Apply one pass once, as a pipeline does; return the result and the number of changes."""
    after, step = model.copy(), kind()
    if any(wants(after) is not None for wants in step.preconditions):
        return after, 0
    changes = step.apply(after, lent(step, model))
    after.compact()
    after.sort()
    return after, changes


def lent(step: Pass, model: Model) -> Context:
    """Return what a pipeline lends to a pass over a copy of *model*."""
    return Context(
        feeds(model.proto()) if step.needs_data else None,
        infer=shapes.infer,
        run=runtime.evaluate,
        compare=distance_from(model),
        measure_noise=noise_beside(model),
        measure_noises=noises_beside(model),
    )


# The laws -----------------------------------------------------------------------------------------


@dataclass
class Case:
    """A pass that was applied once to a random model."""

    kind: type[Pass]
    before: Model
    after: Model
    changes: int
    content: bytes
    """The model, serialised before the pass."""


def counts_honestly(case: Case) -> None:
    """No change means not one byte."""
    assert (case.after.to_bytes() != case.content) == (case.changes > 0)


def touches_only_its_copy(case: Case) -> None:
    assert case.before.to_bytes() == case.content


def keeps_the_function(case: Case) -> None:
    """Valid ONNX, the same interface, and outputs that move no more than the pass declares."""
    check_structure(case.before, case.after, case.after.to_bytes())
    original = opened(case.before)
    reference = Reference(original.SerializeToString(), Model.from_proto(original), feeds(original))
    assert reference.reason is None
    found = reference.compare(opened(case.after).SerializeToString(), case.kind.effect)
    assert found.passed or case.kind.effect is Effect.LOSSY, found


def opened(model: Model) -> onnx.ModelProto:
    """Take the defaults of overridable inputs away, so that feeds must give them other values."""
    proto = model.proto()
    inputs = {info.name for info in proto.graph.input}
    kept = [tensor for tensor in proto.graph.initializer if tensor.name not in inputs]
    if model.ir_version >= 4:
        del proto.graph.initializer[:]
        proto.graph.initializer.extend(kept)
    return proto


def keeps_random_operators_random_and_distinct(case: Case) -> None:
    """Those that surely run stay, and none becomes two; what never runs may go."""
    sure, possible = random_nodes(case.before)
    still_sure, still_possible = random_nodes(case.after)
    assert sure <= still_sure
    assert still_possible <= possible


def random_nodes(model: Model) -> tuple[int, int]:
    """Count the random nodes that somebody reads: those that run whatever happens, and all."""
    alive, _ = apply(PASSES["drop-dead"], model)
    everywhere = [node for node in alive.nodes() if node.op in RANDOM or _trains(node)]
    perhaps = {
        node
        for graph in alive.graphs()
        for holder in graph.nodes
        if holder.op in ("If", "Loop")
        for body in holder.subgraphs(recursive=True)
        for node in body.nodes
    }
    return sum(node not in perhaps for node in everywhere), len(everywhere)


RANDOM = frozenset({"RandomNormalLike", "RandomUniform", "Bernoulli"})


def _trains(node: Node) -> bool:
    """Say whether a Dropout may drop something: its mode is open, or true."""
    if node.op != "Dropout" or node.input(2) is None:
        return False
    mode = node.constant(2)
    return mode is None or bool(mode.any())


def never_grows_the_file(case: Case) -> None:
    assert case.after.size() <= len(case.content) or case.kind.may_grow


def keeps_facts_true(case: Case) -> None:
    """What was known of tensors that stay still holds, unless the pass calls it outdated."""
    after, step = case.before.copy(), case.kind()
    known, outdated = shapes.infer(after), []
    context = lent(step, case.before)
    context.infer, context.outdate = lambda _: known, lambda: outdated.append(True)
    step.apply(after, context)
    if outdated or case.kind.effect is Effect.LOSSY:  # then pipelines infer anew in any case
        return
    after.sort()
    now = shapes.infer(after)
    for tensor in (tensor for node in after.nodes() for tensor in node.outputs):
        then = known.dims(tensor), now.dims(tensor)
        if None not in then:
            assert [len(dims or ()) for dims in then] == 2 * [len(then[0] or ())], tensor.name
            for one, other in zip(*(dims or () for dims in then), strict=True):
                assert one == other or not (isinstance(one, int) and isinstance(other, int))


def is_deterministic(case: Case) -> None:
    again, changes = apply(case.kind, Model.from_proto(case.before.proto()))
    assert (again.to_bytes(), changes) == (case.after.to_bytes(), case.changes)


def settles(case: Case) -> None:
    """Applied again and again, the pass soon finds nothing more to change."""
    model, changes, rounds = case.after, case.changes, 0
    while changes:
        model, changes = apply(case.kind, model)
        rounds += 1
        assert rounds <= 30, "the pass never settles"


ALWAYS: tuple[Callable[[Case], None], ...] = (counts_honestly, touches_only_its_copy)
WHERE_IT_CHANGES_SOMETHING: tuple[Callable[[Case], None], ...] = (
    keeps_the_function,
    keeps_random_operators_random_and_distinct,
    never_grows_the_file,
    keeps_facts_true,
    is_deterministic,
    settles,
)


def obeys_the_laws(kind: type[Pass], before: Model, content: bytes) -> None:
    case = Case(kind, before, *apply(kind, before), content)
    for law in (*ALWAYS, *(WHERE_IT_CHANGES_SOMETHING if case.changes else ())):
        law(case)


@EVERY
@examples(15)
@given(proto=graphs())
def test_obeys_the_laws(kind: type[Pass], proto: onnx.ModelProto) -> None:
    """The test to run alone, and thoroughly, while writing a pass."""
    before = Model.from_proto(proto)
    obeys_the_laws(kind, before, before.to_bytes())


@pytest.mark.parametrize("part", range(8))
def test_all_obey_the_laws(part: int) -> None:
    """Drawing models takes longer than rewriting them, so each one is shown to all passes.

    To lossy ones, which take longer, every fourth is.
    """
    suspects, turns = list(PASSES), count()

    @seed(part)
    @settings(examples(30), derandomize=False)
    @given(proto=graphs())
    def obey(proto: onnx.ModelProto) -> None:
        before = Model.from_proto(proto)
        content, turn = before.to_bytes(), next(turns)
        for name in suspects:
            if turn % 4 and PASSES[name].effect is Effect.LOSSY and len(suspects) > 1:
                continue
            try:
                obeys_the_laws(PASSES[name], before, content)
            except Exception:
                note(f"the pass is {name}")
                suspects[:] = [name]  # so that only its example is made smaller
                raise

    obey()


@EVERY
def test_says_what_it_is(kind: type[Pass]) -> None:
    assert help_line(kind).endswith(".")
    assert kind.__module__.rpartition(".")[2] == kind.name.replace("-", "_")
    assert parse(unparse(kind())) == (kind(),)


def test_random_models_have_what_every_pass_looks_for() -> None:
    pending = dict(PASSES)

    def none_is_left(proto: onnx.ModelProto) -> bool:
        model = Model.from_proto(proto)
        for name in list(pending):
            after, changes = apply(pending[name], model)
            if changes:
                keeps_facts_true(Case(pending[name], model, after, changes, b""))
                del pending[name]
        return not pending

    search = settings(examples(2500), phases=[Phase.generate])
    try:
        find(graphs(), none_is_left, settings=search)
    except NoSuchExample:
        names = ", ".join(pending)
        pytest.fail(f"the laws say nothing about {names}: add motifs to strategies.py")


@examples(40)
@given(proto=graphs(), order=st.permutations(LOSSLESS))
def test_lossless_passes_compose_in_any_order(proto: onnx.ModelProto, order: list[str]) -> None:
    _, report = Pipeline(parse(",".join(order)))(Model.from_proto(proto), feeds(proto))
    assert not report.warnings
    assert report.validation.passed is (True if report.changed else None)


@examples(40)
@given(proto=graphs())
def test_what_is_slim_stays_as_it_is(proto: onnx.ModelProto) -> None:
    lossless = Pipeline(parse("lossless"), check="off")
    once, _ = lossless(Model.from_proto(proto))
    twice, report = lossless(once)
    assert not report.changed
    assert twice.to_bytes() == once.to_bytes()


@examples(50)
@given(proto=graphs())
def test_random_models_are_valid_and_run(proto: onnx.ModelProto) -> None:
    onnx.checker.check_model(proto)
    session = runtime.Session(proto.SerializeToString(), optimize=False)
    for number in range(2):
        session.run(feed(proto, number))
