"""Passes that look at every weight do not keep mapped files in memory."""

import pytest

from kit import model
from onnxslim import parse, shapes
from onnxslim.base import Context
from onnxslim.ir import weights


@pytest.mark.parametrize(
    "name",
    ["fold-constant-channels", "drop-dead-channels", "factorize-structured"],
)
def test_a_look_at_weights_gives_their_memory_back(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = ", ".join(str(i * i % 37) for i in range(256))
    before = model(f"""g (float[1, 16] x) => (float[1, 16] y)
        <float[16, 16] w = {{{numbers}}}> {{ y = MatMul(x, w) }}""")
    given_back: list[int] = []
    monkeypatch.setattr(before.store, "forget_pages", lambda: given_back.append(1))
    monkeypatch.setattr(weights, "_LOOKED_AT", 1)
    (step,) = parse(name)
    step.apply(before, Context(infer=shapes.infer))
    assert given_back
