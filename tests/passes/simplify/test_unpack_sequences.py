"""Sequences that the graph builds and reads at fixed places."""

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.ir import Model
from onnxslim.passes.simplify.unpack_sequences import UnpackSequences

UNPACK = UnpackSequences()
CONSTANTS = """<int64 first = {0}, int64 last = {-1}, int64 far = {7}, int64[2] sizes = {1, 3},
    int64 two = {2}, int64 three = {3}>"""


def pieces(body: str, x: str = "float[4, N] x", y: str = "float[a, b] y", opset: int = 20) -> Model:
    return model(f"g ({x}) => ({y}) {CONSTANTS} {{ {body} }}", opset)


def test_an_element_is_the_tensor_itself() -> None:
    before = pieces("a = Relu(x) b = Neg(x) q = SequenceConstruct(a, b) y = SequenceAt(q, last)")
    assert_rewrites(before, UNPACK, ["Neg"])


def test_an_element_that_is_not_there_is_left_to_fail() -> None:
    before = pieces("a = Relu(x) q = SequenceConstruct(a, x) y = SequenceAt(q, far)")
    assert_declines(before, UNPACK)


def test_a_place_that_only_the_run_tells_needs_the_sequence() -> None:
    before = pieces(
        "q = SequenceConstruct(x, x) z = SequenceAt(q, i) y = Relu(z)", "float[4, N] x, int64 i"
    )
    assert_declines(before, UNPACK)


def test_insertions_and_erasures_are_followed() -> None:
    before = pieces("""q = SequenceEmpty() a = Relu(x) b = Neg(x) r = SequenceInsert(q, a)
        s = SequenceInsert(r, b, first) t = SequenceErase(s) z = SequenceAt(t, first) y = Abs(z)""")
    assert_rewrites(before, UNPACK, ["Neg", "Abs"])


def test_a_length_is_a_constant() -> None:
    before = pieces("q = SequenceConstruct(x, x, x) n = SequenceLength(q) y = Neg(n)", y="int64 y")
    assert_rewrites(before, UNPACK, ["Neg"])


def test_a_concatenation_of_a_sequence_is_a_concat() -> None:
    before = pieces(
        "a = Relu(x) q = SequenceConstruct(x, a) y = ConcatFromSequence <axis = -1> (q)"
    )
    assert_rewrites(before, UNPACK, ["Relu", "Concat"])


def test_stacking_stays() -> None:
    before = pieces(
        "q = SequenceConstruct(x, x) y = ConcatFromSequence <axis = 0, new_axis = 1> (q)",
        y="float[a, b, c] y",
    )
    assert_declines(before, UNPACK)


@pytest.mark.parametrize("opset", [11, 12, 13, 17, 18, 20])
def test_a_split_to_a_sequence_is_a_split(opset: int) -> None:
    before = pieces(
        """q = SplitToSequence <axis = 0> (x, sizes)
        a = SequenceAt(q, first) b = SequenceAt(q, last) y = Mul(a, b)""",
        opset=opset,
    )
    assert_rewrites(before, UNPACK, ["Split", "Mul"], changes=2)


def test_pieces_of_one_length_are_counted() -> None:
    before = pieces("""q = SplitToSequence <axis = 0> (x, three)
        a = SequenceAt(q, first) b = SequenceAt(q, last) y = Mul(a, b)""")
    after = assert_rewrites(before, UNPACK, ["Split", "Mul"], changes=2)
    assert after.graph.nodes[0].inputs[1].values.tolist() == [3, 1]


def test_pieces_of_an_unknown_dimension_cannot_be_counted() -> None:
    before = pieces("q = SplitToSequence <axis = 1> (x, two) y = SequenceAt(q, first)")
    assert_declines(before, UNPACK)


@pytest.mark.parametrize(("keep", "y"), [(0, "float[a] y"), (1, "float[a, b] y")])
def test_a_row_of_a_tensor_is_gathered(keep: int, y: str) -> None:
    before = pieces(
        f"""q = SplitToSequence <axis = 1, keepdims = {keep}> (x)
        z = SequenceAt(q, last) y = Neg(z)""",
        y=y,
    )
    assert_rewrites(before, UNPACK, ["Gather", "Neg"])


def test_a_sequence_that_something_else_needs_is_not_split() -> None:
    before = pieces(
        """q = SplitToSequence <axis = 0> (x, sizes)
        a = SequenceAt(q, first) b = SequenceAt(q, i) y = Mul(a, b)""",
        "float[4, N] x, int64 i",
    )
    assert_declines(before, UNPACK)


def test_an_element_that_does_not_exist_keeps_the_sequence() -> None:
    before = pieces("""q = SplitToSequence <axis = 0> (x, sizes)
        a = SequenceAt(q, first) b = SequenceAt(q, far) y = Mul(a, b)""")
    assert_declines(before, UNPACK)


def test_pieces_that_are_graph_outputs_keep_their_names() -> None:
    before = pieces(
        """q = SplitToSequence <axis = 0> (x, sizes)
        y = SequenceAt(q, first) z = SequenceAt(q, last)""",
        y="float[a, b] y, float[c, d] z",
    )
    after = assert_rewrites(before, UNPACK, ["Split"], changes=2)
    assert [t.name for t in after.graph.nodes[-1].outputs] == ["y", "z"]


def test_one_piece_cannot_be_two_graph_outputs() -> None:
    before = pieces(
        """q = SplitToSequence <axis = 0> (x, sizes)
        y = SequenceAt(q, first) z = SequenceAt(q, first)""",
        y="float[a, b] y, float[c, d] z",
    )
    assert_declines(before, UNPACK)


def test_an_element_that_is_a_graph_input_and_output_needs_a_node() -> None:
    before = pieces("q = SequenceConstruct(x, x) y = SequenceAt(q, first)")
    assert_declines(before, UNPACK, "needs a node of its own")


def test_a_body_reads_a_sequence_around_it() -> None:
    before = pieces(
        """a = Relu(x) q = SequenceConstruct(a, x)
        y = If (c) <then_branch = t () => (float[p, r] u) { s = SequenceAt(q, last) u = Neg(s) },
                    else_branch = e () => (float[p, r] v) { v = Relu(x) }>""",
        "bool c, float[4, N] x",
    )
    assert_rewrites(before, UNPACK, ["If", "Neg", "Relu"])


def test_a_row_of_a_sequence_that_is_an_output_is_read_from_it() -> None:
    before = model(
        """g (float[2, 4] x) => (float[4] y, seq(float[4]) s) <int64 one = {1}> {
            s = SplitToSequence<keepdims = 0>(x) y = SequenceAt(s, one)
        }"""
    )
    assert_declines(before, UNPACK)


def test_a_row_is_not_taken_while_something_else_needs_the_sequence() -> None:
    before = pieces("""q = SplitToSequence <axis = 0> (x) z = SequenceAt(q, last)
        w = ConcatFromSequence <axis = 0> (q) y = Sub(w, z)""")
    assert_declines(before, UNPACK)


def test_the_sizes_of_many_pieces_take_more_bytes_than_the_sequence() -> None:
    before = pieces(
        "q = SplitToSequence <axis = 0> (x, two) z = SequenceAt(q, last) y = Neg(z)",
        "float[64, N] x",
    )
    assert_declines(before, UNPACK)
