"""What the pipeline lends to a pass."""

import numpy as np

from kit import model
from onnxslim import Context, Model
from onnxslim.base import Notebook
from onnxslim.ir import Node, constant

TEXT = "g (float[2] x) => (float[2] y) { y = Relu(x) }"


def count(of: Model) -> list[int]:
    return [len(of.graph.nodes)]


def test_what_was_found_out_is_kept_until_the_model_changes() -> None:
    context, one = Context(), model(TEXT)
    first = context.once(one, count)
    assert context.once(one, count) is first
    context.forget()
    assert context.once(one, count) is not first


def test_another_model_is_looked_at_anew() -> None:
    context = Context()
    context.once(model(TEXT), count)
    longer = model("g (float[2] x) => (float[2] y) { z = Relu(x)  y = Relu(z) }")
    assert context.once(longer, count) == [2]


def test_nodes_are_found_anew_after_a_change() -> None:
    context, one = Context(), model(TEXT)
    assert len(context.find(one, ["Relu"])) == 1
    node: Node = one.graph.nodes[0]
    node.op = "Neg"
    context.forget()
    assert not context.find(one, ["Relu"])


def test_a_look_in_vain_counts_for_its_question_while_the_value_stays() -> None:
    weight, vain = constant("w", np.zeros(4, np.float32)), Notebook()
    assert not vain.holds(weight)
    vain.add(weight, 8)
    assert (vain.holds(weight, 8), vain.holds(weight, 9)) == (True, False)
    weight.values = np.zeros(4, np.float32)
    assert not vain.holds(weight, 8)
