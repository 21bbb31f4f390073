"""Windows that slide: sizes, strides, dilations, padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch.nn import functional

from onnxslim.tune.operators.table import Call, Value, pads_of


@dataclass(frozen=True)
class Window:
    """A window over spatial axes; `pads` are all begins, then all ends."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]

    @property
    def extents(self) -> tuple[int, ...]:
        """How many entries the window spans on each axis."""
        return tuple(
            (size - 1) * wide + 1 for size, wide in zip(self.kernel, self.dilations, strict=True)
        )

    @classmethod
    def of(cls, call: Call, sizes: Sequence[int], kernel: Sequence[int] = ()) -> Window:
        """Read the attributes of *call* for an input of spatial *sizes*."""
        shape = tuple(call.attr("kernel_shape") or kernel)
        ones = (1,) * len(shape)
        strides, wide = (tuple(call.attr(n) or ones) for n in ("strides", "dilations"))
        pads = tuple(call.attr("pads") or (0,) * 2 * len(shape))
        found = cls(shape, strides, wide, pads)
        auto = call.attr("auto_pad", "NOTSET")
        if auto == "VALID":
            return cls(shape, strides, wide, (0,) * 2 * len(shape))
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            total = [
                max((-(-size // step) - 1) * step + extent - size, 0)
                for size, step, extent in zip(sizes, strides, found.extents, strict=True)
            ]
            return cls(shape, strides, wide, _halves(total, auto == "SAME_UPPER"))
        return found

    @classmethod
    def transposed(
        cls, call: Call, sizes: Sequence[int], kernel: Sequence[int]
    ) -> tuple[Window, tuple[int, ...]]:
        """Read a ConvTranspose; also return how much the end of each axis grows."""
        found = cls.of(_without_auto_pad(call), sizes, kernel)
        extra = tuple(call.attr("output_padding") or (0,) * len(kernel))
        steps = zip(sizes, found.strides, found.extents, extra, strict=True)
        full = [(size - 1) * step + extent + more for size, step, extent, more in steps]
        auto, wanted = call.attr("auto_pad", "NOTSET"), call.attr("output_shape")
        if wanted is None and auto in ("SAME_UPPER", "SAME_LOWER"):
            wanted = [size * step for size, step in zip(sizes, found.strides, strict=True)]
        if wanted is None:
            pads = (0,) * len(found.pads) if auto == "VALID" else found.pads
            return cls(found.kernel, found.strides, found.dilations, pads), extra
        total = [size - goal for size, goal in zip(full, wanted[-len(kernel) :], strict=True)]
        pads = _halves(total, auto == "SAME_UPPER")
        return cls(found.kernel, found.strides, found.dilations, pads), extra

    def ceiled(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Return how much more the ends must be padded so that the last window fits whole.

        A window that would start in the padding at the end does not count.
        """
        half, more = len(self.kernel), list[int]()
        for at, size in enumerate(sizes):
            begin, end, step = self.pads[at], self.pads[at + half], self.strides[at]
            room = size + begin + end - self.extents[at]
            count = -(-room // step)
            count -= count * step >= size + begin
            more.append(max(count * step - room, 0))
        return tuple(more)


def _without_auto_pad(call: Call) -> Call:
    attrs = {name: value for name, value in call.attrs.items() if name != "auto_pad"}
    return Call(call.op, call.name, attrs, call.types, call.wanted, call.rounding)


def _halves(total: Sequence[int], upper: bool) -> tuple[int, ...]:
    """Split *total* padding into begins and ends; *upper* puts an odd one at the end."""
    small = tuple(amount // 2 for amount in total)
    large = tuple(amount - amount // 2 for amount in total)
    return (*small, *large) if upper else (*large, *small)


def padded(x: Value, pads: Sequence[int], fill: float = 0.0) -> tuple[Value, tuple[int, ...]]:
    """Pad *x* unless torch's operators can: return it, and what is left for them to do."""
    half = len(pads) // 2
    begins, ends = tuple(pads[:half]), tuple(pads[half:])
    if begins == ends and fill == 0 and min(pads, default=0) >= 0:
        return x, begins
    return functional.pad(x, pads_of(pads), value=fill), (0,) * half


def cropped(x: Value, pads: Sequence[int], extra: Sequence[int]) -> Value:
    """Cut *pads* off both ends of the spatial axes, after zeros were put to the ends."""
    half = len(extra)
    ends = [more - pad for more, pad in zip(extra, pads[half:], strict=True)]
    return functional.pad(x, pads_of([*(-pad for pad in pads[:half]), *ends]))
