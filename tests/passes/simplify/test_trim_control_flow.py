"""Results nobody reads, and values no round changes."""

from kit import assert_declines, assert_rewrites, model
from onnxslim.ir import Model
from onnxslim.passes.simplify.trim_control_flow import TrimControlFlow

TRIM = TrimControlFlow()


def outputs_of(after: Model, op: str) -> int:
    (node,) = (node for node in after.nodes() if node.op == op)
    return len(node.outputs)


def test_results_of_an_if_that_nobody_reads_go() -> None:
    before = model("""g (bool c, float[N] x) => (float[M] y) {
        v, w, u = If (c) <then_branch = t () => (float[a] p, float[b] q, float[d] r) {
                p = Relu(x) q = Neg(x) r = Abs(x) },
            else_branch = e () => (float[a] s, float[b] o, float[d] m) {
                s = Exp(x) o = Log(x) m = Sin(x) }>
        y = Tanh(w) }""")
    ops = ["If", "Tanh", "Relu", "Neg", "Abs", "Exp", "Log", "Sin"]
    assert outputs_of(assert_rewrites(before, TRIM, ops, changes=2), "If") == 1


def test_an_if_that_nobody_reads_is_left_to_others() -> None:
    before = model("""g (bool c, float[N] x) => (float[M] y) {
        v = If (c) <then_branch = t () => (float[a] p) { p = Relu(x) },
                    else_branch = e () => (float[a] s) { s = Exp(x) }>
        y = Tanh(x) }""")
    assert_declines(before, TRIM)


def loop(carried: str, results: str, body: str, after: str, out: str = "float[M] y") -> Model:
    """Run a body over two values, p and q, that start as x and w, gathering row."""
    return model(f"""g (int64 n, float[N] x, float[N] w) => ({out}) <bool yes = {{1}}> {{
        {results} = Loop (n, yes, {carried}) <body =
            body (int64 i, bool go, float[N] p, float[N] q)
                => (bool go_on, float[N] p2, float[N] q2, float[N] row) {{
                go_on = Identity(go) {body} }}>
        {after} }}""")


def test_a_value_that_no_round_changes_is_read_from_outside() -> None:
    before = loop(
        "x, w",
        "a, b, r",
        "p2 = Add(p, q) q2 = Identity(q) row = Neg(p2)",
        "s = Add(a, b) y = Add(s, r)",
    )
    after = assert_rewrites(
        before, TRIM, ["Loop", "Add", "Add", "Identity", "Add", "Identity", "Neg"]
    )
    assert outputs_of(after, "Loop") == 2


def test_a_value_that_no_round_changes_stays_as_a_graph_output() -> None:
    before = loop(
        "x, w", "a, b, r", "p2 = Add(p, q) q2 = Identity(q) row = Neg(p2)", "y = Add(a, r)",
        "float[M] y, float[N] b",
    )  # fmt: skip
    assert_declines(before, TRIM)


def test_gathered_rows_that_nobody_reads_go() -> None:
    before = loop("x, w", "a, b, r", "p2 = Add(p, q) q2 = Mul(p, q) row = Neg(p2)", "y = Add(a, b)")
    after = assert_rewrites(before, TRIM, ["Loop", "Add", "Identity", "Add", "Mul", "Neg"])
    assert outputs_of(after, "Loop") == 2


def test_a_value_that_only_its_own_next_value_needs_goes() -> None:
    before = loop(
        "x, w", "a, b, r", "p2 = Relu(p) h = Neg(q) q2 = Abs(h) row = Neg(p2)", "y = Add(a, r)"
    )
    after = assert_rewrites(before, TRIM, ["Loop", "Add", "Identity", "Relu", "Neg", "Abs", "Neg"])
    assert outputs_of(after, "Loop") == 2


def test_a_value_that_another_needs_stays() -> None:
    before = loop("x, w", "a, b, r", "p2 = Add(p, q) q2 = Abs(q) row = Neg(p2)", "y = Add(a, r)")
    assert_declines(before, TRIM)


def test_a_value_that_decides_when_to_stop_stays() -> None:
    before = model("""g (int64 n, float[N] x, int64 k) => (float[M] y) <bool yes = {1}> {
        y, z = Loop (n, yes, x, k) <body =
            body (int64 i, bool go, float[N] p, int64 q) => (bool go_on, float[N] p2, int64 q2) {
                p2 = Relu(p) q2 = Add(q, i) go_on = Less(q2, k) }> }""")
    assert_declines(before, TRIM)


def test_a_value_that_a_body_inside_reads_stays() -> None:
    before = loop(
        "x, w", "a, b, r",
        """t = ReduceMax <keepdims = 0> (p) c = Cast <to = 9> (t) q2 = Abs(q) row = Neg(p)
        p2 = If (c) <then_branch = t () => (float[N] h) { h = Relu(q) },
                     else_branch = e () => (float[N] m) { m = Relu(p) }>""",
        "y = Add(a, r)",
    )  # fmt: skip
    assert_declines(before, TRIM)


def test_the_last_result_stays() -> None:
    before = model("""g (int64 n, float[N] x) => (float[M] y) <bool yes = {1}> {
        a = Loop (n, yes, x) <body =
            body (int64 i, bool go, float[N] p) => (bool go_on, float[N] p2) {
                p2 = Identity(p) go_on = Identity(go) }>
        y = Relu(a) }""")
    assert_declines(before, TRIM)
