"""Laws that every pass obeys, on random models. A new pass is under them without a line of test.

``HYPOTHESIS_PROFILE=thorough`` searches twenty times as long, and anew each time.
"""

from __future__ import annotations

import os

import onnx
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from strategies import RANDOM, feed, graphs

from onnxslim import Calibration, Effect, Model, Pass, Pipeline, parse, runtime, shapes, unparse
from onnxslim.base import Context
from onnxslim.registry import all_passes, help_line
from onnxslim.validate import Reference, check_structure

PASSES = all_passes()
EVERY = pytest.mark.parametrize("kind", list(PASSES.values()), ids=list(PASSES))
LOSSLESS = [kind() for kind in PASSES.values() if kind.effect is not Effect.LOSSY]
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
    return Calibration.of([feed(proto, seed) for seed in range(2)])


def apply(kind: type[Pass], model: Model) -> tuple[Model, int]:
    """Apply one pass once, as a pipeline does; return the result and the number of changes."""
    after, step = model.copy(), kind()
    if any(wants(after) is not None for wants in step.preconditions):
        return after, 0
    data = feeds(model.proto()) if step.needs_data else None
    changes = step.apply(after, Context(data, infer=shapes.infer, run=runtime.evaluate))
    after.compact()
    after.sort()
    return after, changes


def opened(model: Model) -> onnx.ModelProto:
    """Take the defaults of overridable inputs away, so that feeds must give them other values."""
    proto = model.proto()
    inputs = {info.name for info in proto.graph.input}
    kept = [tensor for tensor in proto.graph.initializer if tensor.name not in inputs]
    if model.ir_version >= 4:
        del proto.graph.initializer[:]
        proto.graph.initializer.extend(kept)
    return proto


@EVERY
@examples(80)
@given(proto=graphs())
def test_keeps_the_function(kind: type[Pass], proto: onnx.ModelProto) -> None:
    before = Model.from_proto(proto)
    after, changes = apply(kind, before)
    if changes:
        check_structure(before, after, after.to_bytes())
        original = opened(before)
        source = original.SerializeToString()
        reference = Reference(source, Model.from_proto(original), feeds(original))
        assert reference.reason is None
        found = reference.compare(opened(after).SerializeToString(), kind.effect)
        assert found.passed or kind.effect is Effect.LOSSY, found


@EVERY
@examples(25)
@given(proto=graphs())
def test_settles(kind: type[Pass], proto: onnx.ModelProto) -> None:
    after, changes = apply(kind, Model.from_proto(proto))
    rounds = 0
    while changes:
        after, changes = apply(kind, after)
        rounds += 1
        assert rounds <= len(proto.graph.node) + 2, "the pass never settles"


@EVERY
@examples(40)
@given(proto=graphs())
def test_counts_honestly_and_touches_only_its_copy(
    kind: type[Pass], proto: onnx.ModelProto
) -> None:
    before = Model.from_proto(proto)
    frozen = before.to_bytes()
    after, changes = apply(kind, before)
    assert before.to_bytes() == frozen
    assert (after.to_bytes() != frozen) == (changes > 0)


@EVERY
@examples(40)
@given(proto=graphs())
def test_never_grows_the_file(kind: type[Pass], proto: onnx.ModelProto) -> None:
    before = Model.from_proto(proto)
    after, _ = apply(kind, before)
    assert after.size() <= before.size() or kind.may_grow


@EVERY
@examples(25)
@given(proto=graphs())
def test_is_deterministic(kind: type[Pass], proto: onnx.ModelProto) -> None:
    first, second = (apply(kind, Model.from_proto(proto))[0] for _ in range(2))
    assert first.to_bytes() == second.to_bytes()


@EVERY
@examples(25)
@given(proto=graphs())
def test_keeps_random_operators_random_and_distinct(
    kind: type[Pass], proto: onnx.ModelProto
) -> None:
    before = Model.from_proto(proto)
    after, _ = apply(kind, before)
    assert random_nodes(after) == random_nodes(before)


def random_nodes(model: Model) -> int:
    """Count the random nodes that somebody reads."""
    alive, _ = apply(PASSES["drop-dead"], model)
    return sum(node.op in RANDOM for node in alive.nodes())


@EVERY
def test_says_what_it_is(kind: type[Pass]) -> None:
    assert help_line(kind).endswith(".")
    assert kind.__module__.rpartition(".")[2] == kind.name.replace("-", "_")
    assert parse(unparse(kind())) == (kind(),)


@EVERY
def test_random_models_have_what_it_looks_for(kind: type[Pass]) -> None:
    search = settings(examples(600), phases=[Phase.generate])
    try:
        find(graphs(), lambda proto: apply(kind, Model.from_proto(proto))[1] > 0, settings=search)
    except NoSuchExample:
        pytest.fail("the laws say nothing about this pass: add its motif to strategies.py")


@examples(60)
@given(proto=graphs(), order=st.permutations(LOSSLESS))
def test_lossless_passes_compose_in_any_order(proto: onnx.ModelProto, order: list[Pass]) -> None:
    _, report = Pipeline(tuple(order))(Model.from_proto(proto), feeds(proto))
    assert not report.warnings
    assert report.validation.passed is (True if report.changed else None)


@examples(60)
@given(proto=graphs())
def test_what_is_slim_stays_as_it_is(proto: onnx.ModelProto) -> None:
    lossless = Pipeline(parse("lossless"), check="off")
    once, _ = lossless(Model.from_proto(proto))
    twice, report = lossless(once)
    assert not report.changed
    assert twice.to_bytes() == once.to_bytes()


@examples(100)
@given(proto=graphs())
def test_random_models_are_valid_and_run(proto: onnx.ModelProto) -> None:
    onnx.checker.check_model(proto, full_check=True)
    session = runtime.Session(proto.SerializeToString(), optimize=False)
    for seed in range(2):
        session.run(feed(proto, seed))
