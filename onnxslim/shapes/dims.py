"""The shape of what an operator returns, by operator.

A rule sees a `Site` and returns a shape for every output: a list with None for shapes and for
dimensions that it does not know. A rule raises `Unknown` where it cannot say anything.
Source: the operator specifications of ONNX, and onnxruntime's kernels where those are silent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

from onnxslim.ir import Constant, producer
from onnxslim.shapes import expr
from onnxslim.shapes.expr import Expr, broadcast, floor_div, is_at_least
from onnxslim.shapes.site import (
    ENDLESS,
    Loose,
    Shape,
    Site,
    Unknown,
    axis_of,
    is_short,
    places_of_slice,
    whole,
)

Rule = Callable[[Site], "list[Loose | None]"]
RULES: dict[str, Rule] = {}
UNKNOWN_TO_ONNX = ("ImageScaler", "com.microsoft::")
"""Operators whose results have the element type of their first input, though ONNX does not know."""


def rule(*operators: str) -> Callable[[Rule], Rule]:
    """Make a function the rule of *operators*."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(operators, function))
        return function

    return register


def product(dims: Iterable[Expr]) -> Expr:
    """Return the number of elements of a shape."""
    total: Expr = 1
    for dim in dims:
        total = total * dim
    return total


def ceil_div(value: Any, by: Expr) -> Expr:
    """Return the quotient rounded up."""
    return -floor_div(-value, by)


def agree(dims: Sequence[Expr]) -> Expr:
    """Return the simplest of several dimensions that are equal if the model runs at all."""
    return min(dims, key=expr.simplicity)


def _differ(dims: Sequence[Expr]) -> bool:
    """Say whether there are two numbers among *dims*."""
    return len({dim for dim in dims if isinstance(dim, int)}) > 1


def broadcast_shapes(shapes: Sequence[Shape]) -> Shape:
    """Return the common shape of tensors that are broadcast to each other."""
    if all(shape == shapes[0] for shape in shapes):
        return shapes[0]
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(broadcast(dims) for dims in zip(*padded, strict=True))


# Element by element -------------------------------------------------------------------------------


@rule(
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BatchNormalization", "Bernoulli",
    "BitwiseNot", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Cos", "Cosh", "CumProd", "CumSum",
    "DequantizeLinear", "Dropout", "Elu", "Erf", "Exp", "EyeLike", "Floor", "Gelu",
    "GroupNormalization", "HardSigmoid", "HardSwish", "Hardmax", "Identity", "ImageScaler",
    "InstanceNormalization", "IsInf", "IsNaN", "LRN", "LayerNormalization", "LeakyRelu", "Log",
    "LogSoftmax", "LpNormalization", "MeanVarianceNormalization", "Mish", "Neg", "Not",
    "QuantizeLinear", "RMSNormalization", "RandomNormalLike", "RandomUniformLike", "Reciprocal",
    "Relu", "ReverseSequence", "RotaryEmbedding", "Round", "ScaledTanh", "Scatter",
    "ScatterElements", "ScatterND", "Selu", "Shrink", "Sigmoid", "Sign",
    "SimplifiedLayerNormalization", "Sin", "Sinh", "Softmax", "Softplus", "Softsign", "Sqrt",
    "Swish", "Tan", "Tanh", "TensorScatter", "ThresholdedRelu", "Trilu",
    "ai.onnx.ml::Binarizer", "ai.onnx.ml::Imputer", "ai.onnx.ml::LabelEncoder",
    "ai.onnx.ml::Normalizer", "ai.onnx.ml::Scaler",
    "com.microsoft::BiasGelu", "com.microsoft::FastGelu", "com.microsoft::Gelu",
    "com.microsoft::QuickGelu", "com.microsoft::SkipLayerNormalization",
    "com.microsoft::SkipSimplifiedLayerNormalization",
)  # fmt: skip
def _like_first(at: Site) -> list[Loose | None]:
    return [at.dims(0)]


@rule("com.microsoft::SkipLayerNormalization", "com.microsoft::SkipSimplifiedLayerNormalization")
def _skip(at: Site) -> list[Loose | None]:
    return [at.dims(0), None, None, at.dims(0)]


@rule("com.microsoft::MultiHeadAttention")
def _heads(at: Site) -> list[Loose | None]:
    batch, length, _ = at.dims(0)
    values = at.dims(2)
    wide = values[2] if len(values) == 3 else values[1] * values[3]
    return [(batch, length, wide)]


@rule(
    "Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater",
    "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "PRelu",
    "Pow", "Sub", "Sum", "Where", "Xor",
)  # fmt: skip
def _broadcast(at: Site) -> list[Loose | None]:
    shapes = [at.dims(slot) for slot in range(len(at.node.inputs))]
    if at.opset < 7:  # the second adapts to the first
        return [shapes[0]]
    return [broadcast_shapes(shapes)]


@rule("DynamicQuantizeLinear")
def _dynamic_quantize(at: Site) -> list[Loose | None]:
    return [at.dims(0), (), ()]


# Shapes and what is made from them ----------------------------------------------------------------


@rule("Shape")
def _shape(at: Site) -> list[Loose | None]:
    return [(len(at.dims(0)[shape_slice(at)]),)]


def shape_slice(at: Site) -> slice:
    """Return which dimensions a Shape node returns."""
    return slice(at.number("start", 0), at.node.attr("end"))


@rule("Size")
def _size(at: Site) -> list[Loose | None]:
    return [()]


@rule("ConstantOfShape")
def _constant_of_shape(at: Site) -> list[Loose | None]:
    try:
        return [at.elements(0)]
    except Unknown:
        return [[None] * at.length(0)]


@rule("Range")
def _range(at: Site) -> list[Loose | None]:
    try:
        start, limit, delta = (at.elements(slot)[0] for slot in range(3))
    except Unknown:
        return [[None]]
    if not isinstance(delta, int) or not delta:
        return [[None]]
    steps = (limit - start) if delta > 0 else (start - limit)
    return [[expr.positive_part(ceil_div(steps, abs(delta)))]]


@rule("Expand")
def _expand(at: Site) -> list[Loose | None]:
    dims = at.dims(0)
    try:
        target: Loose = at.elements(1)
    except Unknown:
        target = [None] * at.length(1)
    rank = max(len(dims), len(target))
    pairs = zip(
        (1,) * (rank - len(dims)) + dims,
        [1] * (rank - len(target)) + list(target),
        strict=True,
    )
    return [[_expanded(dim, wanted) for dim, wanted in pairs]]


def _expanded(dim: Expr, wanted: Expr | None) -> Expr | None:
    if wanted is None:
        return dim if isinstance(dim, int) and dim != 1 else None
    return broadcast((dim, wanted))


@rule("Tile")
def _tile(at: Site) -> list[Loose | None]:
    dims = at.dims(0)
    if at.opset < 6:
        raise Unknown
    try:
        repeats = at.elements(1)
    except Unknown:
        return [[None] * len(dims)]
    return [[dim * times for dim, times in zip(dims, repeats, strict=True)]]


@rule("OneHot")
def _one_hot(at: Site) -> list[Loose | None]:
    dims = list(at.dims(0))
    try:
        depth = at.elements(1)[0]
    except Unknown:
        depth = None
    axis = axis_of(at.number("axis", -1), len(dims) + 1)
    return [[*dims[:axis], depth if isinstance(depth, int | expr.Sym) else None, *dims[axis:]]]


# Reshaping ----------------------------------------------------------------------------------------


@rule("Reshape")
def _reshape(at: Site) -> list[Loose | None]:
    shape = at.known.shape(at.input(0))
    try:
        target: Sequence[Expr] = at.numbers("shape") if at.opset < 5 else at.elements(1)
    except Unknown:
        target = [at.known.fresh(None) for _ in range(at.length(1))]
    return [reshaped(shape, target, bool(at.number("allowzero", 0)))]


def reshaped(shape: Shape | None, target: Sequence[Expr], allow_zero: bool = False) -> Loose:
    """Return the shape that Reshape makes of *shape*, of which nothing may be known.

    Where ``allowzero`` is off, an element of *target* that is zero in a run stands for the
    dimension of the input at its place. `_stays` says when that makes no difference. An element
    of which nothing is known may be any number where another dimension is zero.
    """
    if len(target) == 1 and shape is not None:
        return [agree([product(shape), *(t for t in target if is_at_least(t, 1))])]
    found: list[Expr | None] = []
    for index, wanted in enumerate(target):
        if wanted == 0 and not allow_zero:
            found.append(shape[index] if shape is not None and index < len(shape) else None)
        elif is_at_least(wanted, 0):
            found.append(wanted)
        else:
            found.append(None)
    exact, rest = _rest(shape, found)
    if not exact and not allow_zero:
        found = [
            dim if wanted == 0 or _stays(wanted, shape) else None
            for wanted, dim in zip(target, found, strict=True)
        ]
        rest = _rest(shape, found)[1]
    if found.count(None) == 1:
        place = found.index(None)
        open_ended = target[place] != -1 and not is_at_least(target[place], 0)
        if not open_ended or all(is_at_least(dim, 1) for dim in found if dim is not None):
            found[place] = rest
    return found


def _stays(wanted: Expr, shape: Shape | None) -> bool:
    """Say whether *wanted* in a Reshape's target is the dimension that results even if it is zero.

    Either it is never zero, or a dimension of the input is zero with it. If that is another
    dimension than the one at its place the tensor is empty, which we do not care about.
    """
    return is_at_least(wanted, 1) or any(_vanishes_with(dim, wanted) for dim in shape or ())


def _vanishes_with(dim: Expr, other: Expr) -> bool:
    """Say whether *dim* is zero where *other* is."""
    if set(expr.broadcast_parts(other)) <= set(expr.broadcast_parts(dim)):
        return True
    return is_at_least(other, dim) or expr.divide(dim, other) is not None


def _rest(shape: Shape | None, found: Sequence[Expr | None]) -> tuple[bool, Expr | None]:
    """Divide the number of elements of *shape* by that of the known part of *found*.

    Also say whether that leaves no remainder whatever the dimensions are. What has no elements
    tells nothing: any dimension goes with another one that is zero.
    """
    left, right = list(shape or ()), []
    for dim in found:
        if dim in left:
            left.remove(dim)
        elif dim is not None:
            right.append(dim)
    total, taken = product(left), product(right)
    if shape is None or 0 in shape or taken == 0 or expr.is_large(total) or expr.is_large(taken):
        return False, None
    quotient = expr.divide(total, taken)
    return quotient is not None, floor_div(total, taken) if quotient is None else quotient


@rule("Flatten")
def _flatten(at: Site) -> list[Loose | None]:
    dims = at.dims(0)
    axis = at.number("axis", 1)
    axis = axis + len(dims) if axis < 0 else axis
    return [(product(dims[:axis]), product(dims[axis:]))]


@rule("Transpose")
def _transpose(at: Site) -> list[Loose | None]:
    dims = at.dims(0)
    order = at.numbers("perm", list(reversed(range(len(dims)))))
    if sorted(order) != list(range(len(dims))):
        raise Unknown
    return [[dims[axis] for axis in order]]


@rule("Squeeze")
def _squeeze(at: Site) -> list[Loose | None]:
    dims, axes = at.dims(0), at.listed("axes", 1)
    if axes is None:
        if not all(isinstance(dim, int) for dim in dims):
            raise Unknown
        return [[dim for dim in dims if dim != 1]]
    gone = {axis_of(axis, len(dims)) for axis in axes}
    return [[dim for axis, dim in enumerate(dims) if axis not in gone]]


@rule("Unsqueeze")
def _unsqueeze(at: Site) -> list[Loose | None]:
    dims, axes = at.dims(0), at.listed("axes", 1)
    if axes is None:
        raise Unknown
    made = {axis_of(axis, len(dims) + len(axes)) for axis in axes}
    left = iter(dims)
    return [[1 if i in made else next(left) for i in range(len(dims) + len(made))]]


@rule("DepthToSpace", "SpaceToDepth")
def _blocks(at: Site) -> list[Loose | None]:
    batch, depth, *space = at.dims(0)
    size = at.number("blocksize", 1)
    if at.node.op == "DepthToSpace":
        return [[batch, floor_div(depth, size * size), *(dim * size for dim in space)]]
    return [[batch, depth * size * size, *(floor_div(dim, size) for dim in space)]]


# Taking apart and putting together ----------------------------------------------------------------


@rule("Concat")
def _concat(at: Site) -> list[Loose | None]:
    shapes = [at.dims(slot) for slot in range(len(at.node.inputs))]
    axis = at.number("axis", 1 if at.opset < 4 else 0)
    return [_joined(at, shapes, axis)]


@rule("ConcatFromSequence")
def _concat_from_sequence(at: Site) -> list[Loose | None]:
    shapes, axis = at.sequence(0), at.number("axis", 0)
    if not at.number("new_axis", 0):
        return [_joined(at, shapes, axis)]
    axis = axis_of(axis, len(shapes[0]) + 1)
    return [_joined(at, [(*shape[:axis], 1, *shape[axis:]) for shape in shapes], axis)]


@rule("SequenceAt")
def _sequence_at(at: Site) -> list[Loose | None]:
    shapes = at.sequence(0)
    return [shapes[axis_of(at.integers(1)[0], len(shapes))]]


def _joined(at: Site, shapes: Sequence[Shape], axis: int) -> Loose:
    """Return the shape of tensors put together along *axis*.

    Where sizes do not fit, which ONNX forbids, onnxruntime leaves out tensors that are empty.
    """
    if len({len(shape) for shape in shapes}) != 1:
        raise Unknown
    axis = axis_of(axis, len(shapes[0]))
    columns = list(zip(*shapes, strict=True))
    if any(_differ(column) for column in columns[:axis] + columns[axis + 1 :]):
        return [None] * len(columns)
    dims = [agree(column) for column in columns]
    for other in shapes:
        at.equate(dims[:axis] + dims[axis + 1 :], other[:axis] + other[axis + 1 :])
    total: Expr = 0
    for shape in shapes:
        total = total + shape[axis]
    dims[axis] = total
    return dims


@rule("Split")
def _split(at: Site) -> list[Loose | None]:
    dims, count = at.dims(0), len(at.node.outputs)
    axis = axis_of(at.number("axis", 0), len(dims))
    sizes = _split_sizes(at, dims[axis], count)
    return [[*dims[:axis], size, *dims[axis + 1 :]] for size in sizes]


def _split_sizes(at: Site, dim: Expr, count: int) -> Loose:
    if "split" in at.node.attrs:
        return at.numbers("split")
    if at.has(1):
        try:
            return at.elements(1)
        except Unknown:
            return [None] * count
    if "num_outputs" not in at.node.attrs:
        return [floor_div(dim, count)] * count
    chunk = ceil_div(dim, count)
    return [*[chunk] * (count - 1), dim - chunk * (count - 1)]


@rule("Slice")
def _slice(at: Site) -> list[Loose | None]:
    dims: list[Expr | None] = list(at.dims(0))
    try:
        ranges = slices(at, len(dims))
    except Unknown:
        axes = _cut_axes(at, len(dims))
        return [[None if axis in axes else dim for axis, dim in enumerate(dims)]]
    for axis, start, end, step in ranges:
        dim = dims[axis]
        dims[axis] = None if dim is None else slice_length(dim, start, end, step)
    return [dims]


def _cut_axes(at: Site, rank: int) -> list[int]:
    """Return the axes that a Slice node may cut, its ranges being unknown."""
    try:
        axes = at.integers(3) if at.has(3) else range(at.length(1))
    except Unknown:
        return list(range(rank))
    return [axis_of(axis, rank) for axis in axes]


def slices(at: Site, rank: int) -> list[tuple[int, Any, Any, int]]:
    """Return axis, start, end and step of every axis that a Slice node cuts."""
    if at.opset < 10:
        starts: list[Any] = at.numbers("starts")
        ends: list[Any] = at.numbers("ends")
        axes, steps = at.node.attr("axes"), None
    else:
        starts, ends = at.elements(1), at.elements(2)
        axes = at.integers(3) if at.has(3) else None
        steps = at.integers(4) if at.has(4) else None
    axes = [axis_of(axis, rank) for axis in axes or range(len(starts))]
    if len(set(axes)) != len(axes):
        raise Unknown
    steps = steps or [1] * len(axes)
    if any(s < 0 and not _is_agreed(end) for s, end in zip(steps, ends, strict=True)):
        raise Unknown
    return list(zip(axes, starts, ends, steps, strict=True))


def _is_agreed(end: Any) -> bool:
    """Say whether a backward slice to *end* is clear: to onnxruntime the largest is the front."""
    return not (isinstance(end, int) and end >= ENDLESS)


def slice_length(dim: Expr, start: Expr, end: Expr, step: int) -> Expr | None:
    """Return how many elements a slice has; None where that depends on a sign not known."""
    if step < 0:
        if (start, step) in ((-1, -1), (ENDLESS, -1)) and isinstance(end, int) and end <= -ENDLESS:
            return dim
        if isinstance(dim, int) and isinstance(start, int) and isinstance(end, int):
            return len(places_of_slice(dim, start, end, step))
        return None
    first, last = _clamped(start, dim), _clamped(end, dim)
    if first is None or last is None or not step:
        return None
    return expr.positive_part(ceil_div(last - first, step))


def _clamped(bound: Expr, dim: Expr) -> Expr | None:
    """Return where a bound lies: counted from the end if negative, and inside the dimension."""
    if isinstance(bound, int) and bound >= ENDLESS:
        return dim
    least, most = expr.lower(bound), expr.upper(bound)
    if least is not None and least >= 0:
        return expr.minimum(bound, dim)
    if most is not None and most < 0:
        return expr.positive_part(dim + bound)
    return None


@rule("Gather")
def _gather(at: Site) -> list[Loose | None]:
    dims, picked = at.dims(0), at.dims(1)
    axis = axis_of(at.number("axis", 0), len(dims))
    return [[*dims[:axis], *picked, *dims[axis + 1 :]]]


@rule("ai.onnx.ml::ArrayFeatureExtractor")
def _array_features(at: Site) -> list[Loose | None]:
    dims, picked = at.dims(0), product(at.dims(1))
    return [(*(dims[:-1] if len(dims) > 1 else (1,)), picked)]


@rule("ai.onnx.ml::SVMClassifier")
def _support_vectors(at: Site) -> list[Loose | None]:
    dims = at.dims(0)
    rows = dims[0] if len(dims) > 1 else 1
    return [(rows,), (rows, None)]


@rule("GatherElements")
def _gather_elements(at: Site) -> list[Loose | None]:
    return [at.dims(1)]


@rule("GatherND")
def _gather_nd(at: Site) -> list[Loose | None]:
    dims, picked = at.dims(0), at.dims(1)
    depth = whole([picked[-1]])[0] + at.number("batch_dims", 0)
    return [[*picked[:-1], *dims[depth:]]]


@rule("Compress")
def _compress(at: Site) -> list[Loose | None]:
    if "axis" not in at.node.attrs:
        return [[None]]
    dims: list[Expr | None] = list(at.dims(0))
    dims[axis_of(at.number("axis", 0), len(dims))] = None
    return [dims]


@rule("NonZero")
def _non_zero(at: Site) -> list[Loose | None]:
    dims = at.dims(0)
    source = producer(at.input(0))
    if source is not None and source.operator == "ConstantOfShape":  # old exporters' Range
        value = source.attr("value")
        if isinstance(value, Constant) and value.values.all():
            return [[len(dims), product(dims)]]
    return [[len(dims), None]]


@rule("TopK")
def _top_k(at: Site) -> list[Loose | None]:
    dims: list[Expr | None] = list(at.dims(0))
    axis = axis_of(at.number("axis", -1), len(dims))
    try:
        dims[axis] = at.number("k", 0) if at.opset < 10 else at.elements(1)[0]
    except Unknown:
        dims[axis] = None
    return [dims, dims]


@rule("Pad")
def _pad(at: Site) -> list[Loose | None]:
    dims = list(at.dims(0))
    old = next((name for name in ("pads", "paddings") if name in at.node.attrs), None)
    try:
        pads: list[Any] = at.elements(1) if old is None else at.numbers(old)
        axes = at.integers(3) if old is None and at.has(3) else list(range(len(dims)))
    except Unknown:
        return [[None] * len(dims)]
    half = len(axes)
    for axis, before, after in zip(axes, pads[:half], pads[half:], strict=True):
        axis = axis_of(axis, len(dims))
        dims[axis] = dims[axis] + before + after
    return [dims]


@rule("Resize", "Upsample")
def _resize(at: Site) -> list[Loose | None]:
    dims: list[Expr | None] = list(at.dims(0))
    try:
        return [_resized(at, at.dims(0))]
    except Unknown:
        return [[None] * len(dims)]


def _resized(at: Site, dims: Shape) -> Loose:
    axes = at.numbers("axes", list(range(len(dims))))
    policy = at.node.attr("keep_aspect_ratio_policy", "stretch")
    if (
        policy != "stretch"
        or at.node.attr("coordinate_transformation_mode") == "tf_crop_and_resize"
    ):
        raise Unknown
    made: list[Expr | None] = list(dims)
    sizes = at.elements(3) if at.has(3) else [None] * len(axes)
    scales = _scales(at) if not at.has(3) else [Fraction(1)] * len(axes)
    for axis, size, scale in zip(axes, sizes, scales, strict=True):
        axis = axis_of(axis, len(dims))
        if size is not None:
            made[axis] = size
        elif is_short(scale):
            made[axis] = floor_div(dims[axis] * scale.numerator, scale.denominator)
        else:
            made[axis] = None
    return made


def _scales(at: Site) -> list[Fraction]:
    if "scales" in at.node.attrs:
        return [Fraction(scale) for scale in at.node.attrs["scales"]]
    elements = at.elements(1 if at.node.op == "Upsample" or at.opset < 11 else 2)
    if not all(isinstance(element, int | Fraction) for element in elements):
        raise Unknown
    return [Fraction(element) for element in elements]


# Reductions ---------------------------------------------------------------------------------------


@rule(
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
)  # fmt: skip
def _reduce(at: Site) -> list[Loose | None]:
    dims, keep = at.dims(0), bool(at.number("keepdims", 1))
    try:
        axes = reduced_axes(at, len(dims))
    except Unknown:
        if keep:
            return [[None] * len(dims)]
        raise
    return [without_axes(dims, axes, keep)]


def reduced_axes(at: Site, rank: int) -> list[int]:
    """Return the axes that a reduction goes over."""
    axes = at.listed("axes", 1)
    if not axes:
        return [] if at.number("noop_with_empty_axes", 0) else list(range(rank))
    return [axis_of(axis, rank) for axis in axes]


def without_axes(dims: Shape, axes: Sequence[int], keep: bool) -> Shape:
    """Return the shape after a reduction."""
    if keep:
        return tuple(1 if axis in axes else dim for axis, dim in enumerate(dims))
    return tuple(dim for axis, dim in enumerate(dims) if axis not in axes)


@rule("ArgMax", "ArgMin")
def _arg(at: Site) -> list[Loose | None]:
    dims = at.dims(0)
    axis = axis_of(at.number("axis", 0), len(dims))
    return [without_axes(dims, [axis], bool(at.number("keepdims", 1)))]


# Products -----------------------------------------------------------------------------------------


@rule("MatMul", "MatMulInteger", "QLinearMatMul")
def _matmul(at: Site) -> list[Loose | None]:
    left, right = at.dims(0), at.dims(3 if at.node.op == "QLinearMatMul" else 1)
    if not left or not right:
        raise Unknown
    at.equate(left[-1:], right[-2:-1] or right)
    rows = left[-2:-1]
    columns = right[-1:] if len(right) > 1 else ()
    return [(*broadcast_shapes([left[:-2], right[:-2]]), *rows, *columns)]


@rule("Gemm")
def _gemm(at: Site) -> list[Loose | None]:
    left, right = at.dims(0), at.dims(1)
    if len(left) != 2 or len(right) != 2:
        raise Unknown
    a, b = at.number("transA", 0), at.number("transB", 0)
    at.equate([left[1 - a]], [right[b]])
    return [[left[a], right[1 - b]]]


@rule("Einsum")
def _einsum(at: Site) -> list[Loose | None]:
    equation = str(at.node.attr("equation", "")).replace(" ", "")
    operands, arrow, result = equation.partition("->")
    if not arrow or "." in equation or operands.count(",") != len(at.node.inputs) - 1:
        raise Unknown
    extents: dict[str, list[Expr]] = {}
    for slot, labels in enumerate(operands.split(",")):
        for label, dim in zip(labels, at.dims(slot), strict=True):
            extents.setdefault(label, []).append(dim)
    return [[broadcast(extents[label]) for label in result]]


@rule("Conv", "ConvInteger", "QLinearConv", "com.microsoft::FusedConv")
def _conv(at: Site) -> list[Loose | None]:
    weight = at.dims(3 if at.node.op == "QLinearConv" else 1)
    kernel = at.numbers("kernel_shape", list(weight[2:]))  # type: ignore[arg-type]
    return [[at.dims(0)[0], weight[0], *_windows(at, kernel)]]


@rule("AveragePool", "LpPool", "MaxPool")
def _pool(at: Site) -> list[Loose | None]:
    dims, kernel = at.dims(0), at.numbers("kernel_shape")
    if at.number("ceil_mode", 0):
        space: list[Expr | None] = [None] * len(kernel)
    else:
        space = _windows(at, kernel)
    shape = [*dims[:2], *space]
    return [shape, shape]


def _windows(at: Site, kernel: Sequence[int]) -> list[Expr | None]:
    """Return how many windows fit, for every spatial axis."""
    space, rank = at.dims(0)[2:], len(kernel)
    strides = at.numbers("strides", [1] * rank)
    dilations = at.numbers("dilations", [1] * rank)
    pads = at.numbers("pads", [0] * 2 * rank)
    padding = at.node.attr("auto_pad", "NOTSET")
    found: list[Expr | None] = []
    for i, dim in enumerate(space):
        if padding in ("SAME_UPPER", "SAME_LOWER"):
            found.append(ceil_div(dim, strides[i]))
        else:
            padded = pads[i] + pads[i + rank] if padding == "NOTSET" else 0
            reach = dilations[i] * (kernel[i] - 1) + 1
            found.append(floor_div(dim + padded - reach, strides[i]) + 1)
    return found


@rule("GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool")
def _global_pool(at: Site) -> list[Loose | None]:
    dims = at.dims(0)
    return [[*dims[:2], *[1] * (len(dims) - 2)]]


@rule("ConvTranspose")
def _conv_transpose(at: Site) -> list[Loose | None]:
    dims, weight = at.dims(0), at.dims(1)
    kernel = at.numbers("kernel_shape", list(weight[2:]))  # type: ignore[arg-type]
    rank = len(kernel)
    channels = weight[1] * at.number("group", 1)
    if "output_shape" in at.node.attrs:
        return [[dims[0], channels, *at.numbers("output_shape")[-rank:]]]
    if at.node.attr("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return [[dims[0], channels, *[None] * rank]]
    strides = at.numbers("strides", [1] * rank)
    dilations = at.numbers("dilations", [1] * rank)
    pads = at.numbers("pads", [0] * 2 * rank)
    extra = at.numbers("output_padding", [0] * rank)
    space = [
        (dim - 1) * strides[i]
        + (kernel[i] - 1) * dilations[i] + 1 + extra[i] - pads[i] - pads[i + rank]
        for i, dim in enumerate(dims[2:])
    ]  # fmt: skip
    return [[dims[0], channels, *space]]


@rule("GRU", "LSTM", "RNN", "com.microsoft::DynamicQuantizeLSTM")
def _recurrent(at: Site) -> list[Loose | None]:
    dims, weights = at.dims(0), at.dims(2)
    if len(dims) != 3 or len(weights) != 3:
        raise Unknown
    directions, hidden = weights[0], weights[1 if at.node.op == "DynamicQuantizeLSTM" else 2]
    if at.number("layout", 0):
        batch, steps = dims[:2]
        state: Shape = (batch, directions, hidden)
        return [(batch, steps, directions, hidden), state, state]
    steps, batch = dims[:2]
    state = (directions, batch, hidden)
    return [(steps, directions, batch, hidden), state, state]
