"""Facts about the tensors of a model, by the identity of the tensor."""

from __future__ import annotations

import math
from fractions import Fraction

import onnx
from onnx import TensorProto

from onnxslim.ir import Constant, Model, Tensor, Variable, elem_type
from onnxslim.shapes import engine, expr
from onnxslim.shapes.expr import Expr
from onnxslim.shapes.inferred import Dim
from onnxslim.shapes.site import INTEGERS, Known


class Facts:
    """What is known of the tensors of one model, as it was when `infer` looked at it.

    Tensors made later are unknown, except for constants, which answer for themselves.
    """

    def __init__(self, known: Known | None = None) -> None:
        """Tell what is *known*."""
        self._known = known or Known()
        self._spelled: dict[str, Expr] = {}

    # Shapes ---------------------------------------------------------------------------------------

    def dims(self, tensor: Tensor) -> tuple[Expr, ...] | None:
        """Return the shape of *tensor* as expressions; None where not even its rank is known."""
        return self._known.shape(tensor)

    def shape(self, tensor: Tensor) -> tuple[Dim, ...] | None:
        """Return the shape of *tensor*: a number or a name for every dimension.

        Dimensions of equal names are equal whenever the model runs.
        """
        dims = self.dims(tensor)
        return None if dims is None else tuple(self._spell(dim) for dim in dims)

    def _spell(self, dim: Expr) -> Dim:
        if isinstance(dim, int):
            return dim
        self._spelled[str(dim)] = dim
        return str(dim)

    def rank(self, tensor: Tensor) -> int | None:
        """Return the number of dimensions of *tensor*."""
        dims = self.dims(tensor)
        return None if dims is None else len(dims)

    def static(self, tensor: Tensor) -> tuple[int, ...] | None:
        """Return the shape of *tensor* where every dimension is a number."""
        dims = self.dims(tensor)
        if dims is None:
            return None
        numbers = tuple(dim for dim in dims if isinstance(dim, int))
        return numbers if len(numbers) == len(dims) else None

    def size(self, tensor: Tensor) -> Expr | None:
        """Return the number of elements of *tensor*."""
        dims = self.dims(tensor)
        return None if dims is None else math.prod(dims)

    def same_shape(self, left: Tensor, right: Tensor) -> bool:
        """Say whether two tensors have the same shape whenever the model runs."""
        dims = self.dims(left)
        return left is right or (dims is not None and dims == self.dims(right))

    def equal(self, left: Dim | Expr, right: Dim | Expr) -> bool:
        """Say whether two dimensions are equal whenever the model runs."""
        return left is not None and _plain(left) == _plain(right)

    def extent(self, dim: Dim, unknown: int = 1) -> int:
        """Return what *dim* is when all that is not known is *unknown*; never below 0."""
        if isinstance(dim, int):
            return dim
        known = self._spelled.get(dim or "")
        try:
            return unknown if known is None else _at(known, unknown)
        except ZeroDivisionError:
            return unknown

    def says_the_same(self, other: Facts, model: Model) -> bool:
        """Say whether both know the same of *model*, in which no unknown number occurs.

        Unknown numbers of the same text may be different ones.
        """
        tensors = (t for node in model.nodes() for t in (*node.outputs, *node.inputs))
        read = {t for t in tensors if isinstance(t, Variable) and t.name}
        return all(self._known.agrees(other._known, tensor) for tensor in read)

    # Types and values -----------------------------------------------------------------------------

    def elem_type(self, tensor: Tensor) -> int:
        """Return the ``TensorProto.DataType`` of *tensor*; 0 where it is unknown."""
        known = self._known.elem_type(tensor)
        if known or isinstance(tensor, Constant):
            return known
        return 0 if tensor.dtype is None else elem_type(tensor.dtype)

    def value(self, tensor: Tensor) -> tuple[Expr, ...] | Expr | None:
        """Return the elements of a small int32, int64 or boolean tensor.

        That is one expression for a scalar, a tuple for a vector, and None for anything else and
        for booleans of which one is not known. Unknown integers are expressions too.
        """
        value = self._known.value(tensor)
        kind = self._known.elem_type(tensor)
        if value is None or value.ndim > 1 or kind not in {*INTEGERS, TensorProto.BOOL}:
            return None
        elements = tuple(value.flat)
        if None in elements:
            return None
        return elements if value.ndim else elements[0]


def _plain(dim: Dim | Expr) -> int | str:
    return dim if isinstance(dim, int) else str(dim)


def _at(dim: Expr, unknown: int) -> int:
    return max(0, math.floor(Fraction(expr.evaluate(dim, lambda _: unknown))))


def infer(
    model: Model, trust_names: bool = False, skeleton: onnx.ModelProto | None = None
) -> Facts:
    """Find out what is known of the tensors of *model*; function bodies stay unknown.

    *skeleton* is its export, which is used up, where there is one already.
    With *trust_names*, input dimensions of the same name are taken to be equal. ONNX says so, but
    onnxruntime runs a model on inputs that disagree.
    """
    return Facts(engine.run(model, trust_names, skeleton))
