"""Feeds from folders of images, prepared as the model was trained to see them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from onnxslim.data.preprocessing import CHANNELS, LAYOUTS, Preprocessing
from onnxslim.data.specs import Array, Dim, Feed, InputSpec, is_integer, numpy_type
from onnxslim.data.stream import Stream
from onnxslim.errors import DataError

_SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"))
Size = tuple[int | None, int | None]
"""Height and width; None where any will do."""


def files(folder: Path) -> list[Path]:
    """Return the images in a folder and the folders in it, in order, without hidden files."""
    return sorted(
        path
        for path in folder.rglob("[!.]*")
        if path.suffix.lower() in _SUFFIXES and path.is_file()
    )


def load(
    folder: Path, found: Sequence[Path], specs: Sequence[InputSpec], options: Mapping[str, Any]
) -> Stream:
    """Return the images *found* as feeds of a model with one input. Raises DataError."""
    if len(specs) != 1:
        raise DataError(f"{folder}: images, but the model has {len(specs)} inputs; give an .npz")
    prepare = _Preparation.of(specs[0], Preprocessing.read(options))
    reader, each = _reader(folder), prepare.batch or 1
    count = len(found) // each
    if not count:
        raise DataError(f"{folder}: holds {len(found)} images, a feed takes {each}")

    def feeds() -> Iterator[Feed]:
        for start in range(0, count * each, each):
            arrays = [_read(reader, path, prepare) for path in found[start : start + each]]
            yield {specs[0].name: _batch(arrays, folder) if prepare.batched else arrays[0]}

    return Stream(feeds, str(folder), count)


def _reader(folder: Path) -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        hint = "pip install 'onnxslim[images]'"
        raise DataError(f"{folder}: reading images needs Pillow: {hint}") from error
    return Image


def _read(reader: Any, path: Path, prepare: _Preparation) -> Array:
    broken = (OSError, ValueError, SyntaxError, reader.DecompressionBombError)
    try:
        with reader.open(path) as image:
            if image.mode[0] in "IF":
                raise ValueError(f"it has more than 8 bits a channel ({image.mode}); convert it")
            return prepare(image, reader.Resampling.BILINEAR)
    except broken as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _batch(arrays: Sequence[Array], folder: Path) -> Array:
    if len({array.shape for array in arrays}) > 1:
        raise DataError(f"{folder}: the images of a batch have several sizes; resize and crop them")
    return np.stack(arrays)


# One image ----------------------------------------------------------------------------------------


class _Preparation(NamedTuple):
    """What is done to every image, all of it decided."""

    how: Preprocessing
    color: str
    size: Size
    channels_last: bool
    batch: int | None
    batched: bool
    raw: bool
    """Whether the input takes bytes as they are."""

    @classmethod
    def of(cls, spec: InputSpec, how: Preprocessing) -> _Preparation:
        """Settle what *how* leaves open by what the model declares. Raises DataError."""
        shape = (None, None, None, None) if spec.shape is None else spec.shape
        if spec.kind != "tensor" or len(shape) not in (3, 4):
            raise DataError(f"input {spec.name!r} takes no images; give an .npz file")
        last = _is_last(shape[-3:], how.layout)
        *sides, channels = shape[-3:] if last else (*shape[-2:], shape[-3])
        color = how.color or ("gray" if channels == 1 else "rgb")
        if isinstance(channels, int) and channels != CHANNELS[color]:
            layout = LAYOUTS[last]
            raise DataError(
                f"input {spec.name!r} has {channels} channels as {layout}, {color} images have "
                f"{CHANNELS[color]}; choose another color or layout"
            )
        raw = bool(spec.elem_type) and is_integer(numpy_type(spec.elem_type))
        if raw and (how.scale, how.mean, how.std) != (None, (0.0,), (1.0,)):
            raise DataError(f"input {spec.name!r} takes bytes; leave out scale, mean and std")
        if max(len(how.mean), len(how.std)) > CHANNELS[color]:
            raise DataError(f"mean and std have 3 channels, {color} images have 1")
        batch = shape[0] if len(shape) == 4 and isinstance(shape[0], int) else None
        height, width = how.crop * 2 if how.crop and len(how.crop) == 1 else how.crop or sides
        size = _known(height), _known(width)
        return cls(how, color, size, last, batch, len(shape) == 4, raw)

    def __call__(self, image: Any, filter_: int) -> Array:
        """Return *image* as an array without batch axis."""
        image = image.convert("L" if self.color == "gray" else "RGB")
        goal = self._resized(image.height, image.width)
        if goal != (image.height, image.width):
            image = image.resize(goal[::-1], filter_)
        pixels = np.asarray(self._cropped(image))
        if pixels.ndim == 2:
            pixels = pixels[:, :, None]
        if self.color == "bgr":
            pixels = pixels[:, :, ::-1]
        if not self.raw:
            pixels = self._normal(pixels)
        return np.ascontiguousarray(pixels if self.channels_last else pixels.transpose(2, 0, 1))

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Return the size before cropping."""
        wanted = self.how.resize
        if wanted is not None and len(wanted) == 2:
            return wanted[0], wanted[1]
        if wanted is not None:
            factor = Fraction(wanted[0], min(height, width))
        elif self.how.crop is not None:
            return height, width
        else:
            sides = zip(self.size, (height, width), strict=True)
            factor = max(
                (Fraction(goal, side) for goal, side in sides if goal), default=Fraction(1)
            )
        return max(1, round(height * factor)), max(1, round(width * factor))

    def _cropped(self, image: Any) -> Any:
        height, width = self.size[0] or image.height, self.size[1] or image.width
        if height > image.height or width > image.width:
            raise DataError(
                f"{image.height}x{image.width} pixels are less than the {height}x{width} to crop"
            )
        top, left = (image.height - height) // 2, (image.width - width) // 2
        return image.crop((left, top, left + width, top + height))

    def _normal(self, pixels: Array) -> Array:
        scale = np.float32(1 / 255 if self.how.scale is None else self.how.scale)
        mean, std = (np.array(values, np.float32) for values in (self.how.mean, self.how.std))
        return np.asarray((pixels * scale - mean) / std)


def _is_last(dims: Sequence[Dim], layout: str | None) -> bool:
    """Say whether the channels come last: as told, else where 1 or 3 of them are declared."""
    if layout is not None:
        return layout == "nhwc"
    return dims[0] not in (1, 3) and dims[2] in (1, 3)


def _known(dim: Dim) -> int | None:
    return dim if isinstance(dim, int) else None
