"""Facts about the tensors of a model, by the identity of the tensor."""

from __future__ import annotations

from onnxslim.ir import Constant, Model, Tensor, elem_type
from onnxslim.shapes import inferred
from onnxslim.shapes.inferred import Dim


class Facts:
    """What is known of the tensors of one model, as it was when `infer` looked at it.

    A dimension is a number, a name, or None where nothing is known; dimensions of equal names are
    equal whenever the model runs. Tensors made later are unknown, except for constants.
    """

    def __init__(self, types: dict[Tensor, inferred.Type] | None = None) -> None:
        """Know *types*."""
        self._types = types or {}

    def shape(self, tensor: Tensor) -> tuple[Dim, ...] | None:
        """Return the dimensions of *tensor*; None where not even their number is known."""
        if isinstance(tensor, Constant):
            return tensor.shape
        known = self._types.get(tensor)
        return None if known is None else known.shape

    def rank(self, tensor: Tensor) -> int | None:
        """Return the number of dimensions of *tensor*."""
        shape = self.shape(tensor)
        return None if shape is None else len(shape)

    def static(self, tensor: Tensor) -> tuple[int, ...] | None:
        """Return the shape of *tensor* where every dimension is a number."""
        shape = self.shape(tensor)
        if shape is None:
            return None
        numbers = tuple(dim for dim in shape if isinstance(dim, int))
        return numbers if len(numbers) == len(shape) else None

    def same_shape(self, a: Tensor, b: Tensor) -> bool:
        """Say whether two tensors surely have the same shape."""
        static = self.static(a)
        return static is not None and static == self.static(b)

    def elem_type(self, tensor: Tensor) -> int:
        """Return the ``TensorProto.DataType`` of *tensor*; 0 where it is unknown."""
        if isinstance(tensor, Constant):
            return tensor.elem_type
        known = self._types.get(tensor)
        if known is not None and known.elem_type:
            return known.elem_type
        return 0 if tensor.dtype is None else elem_type(tensor.dtype)


def infer(model: Model) -> Facts:
    """Find out what is known of the tensors of *model*; function bodies stay unknown."""
    return Facts(inferred.types(model))
