"""Feeds: what a model is run on, from files, from Python, or made up.

Calibration data streams: a feed is read when it is asked for and forgotten after it, so that a
thousand samples take no more memory than one.
"""

from __future__ import annotations

import itertools
import re
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError
from numpy.lib import format as npy
from onnx import TensorProto, TypeProto, helper, numpy_helper

from onnxslim.errors import DataError

Array = npt.NDArray[Any]
Feed = dict[str, Any]
"""Values by input name: arrays, lists of arrays for sequences, None for an absent optional."""
Dim = int | str | None

LABELS = "labels"
"""Array of an ``.npz`` file that holds the right answers, where no input has this name."""


@dataclass(frozen=True)
class InputSpec:
    """What a model declares of an input."""

    name: str
    elem_type: int = 0
    """``TensorProto.DataType`` of the elements; 0 where nobody knows."""
    shape: tuple[Dim, ...] | None = None
    """Sizes; a name where symbolic, None where unknown. None for an unknown rank."""
    kind: str = "tensor"
    """``tensor``, ``sequence``, ``optional``, ``optional sequence``, ``sparse_tensor``, ``map``."""
    low: int | None = None
    high: int | None = None
    """Range of whole numbers that index or measure something: ``low <= value < high``."""
    nan: bool = False
    """Whether NaN means something to the model."""


_NAN_READERS = ("IsNaN", "Imputer", "TreeEnsemble")


def input_specs(proto: onnx.ModelProto) -> list[InputSpec]:
    """Return what must be fed: the graph inputs that no initializer gives a value.

    *proto* may lack its weights.
    """
    given = {tensor.name for tensor in proto.graph.initializer}
    given.update(sparse.values.name for sparse in proto.graph.sparse_initializer)
    nan = any(node.op_type.startswith(_NAN_READERS) for node in proto.graph.node)
    return [_spec(info, nan) for info in proto.graph.input if info.name not in given]


def _spec(info: onnx.ValueInfoProto, nan: bool) -> InputSpec:
    kinds, declared = list[str](), info.type
    kind = declared.WhichOneof("value")
    while kind in ("optional_type", "sequence_type"):
        kinds.append(kind.removesuffix("_type"))
        declared = getattr(declared, kind).elem_type
        kind = declared.WhichOneof("value")
    if kind not in (None, "tensor_type"):
        kinds.append(kind.removesuffix("_type"))
    elem, shape = _tensor_type(declared)
    return InputSpec(info.name, elem, shape, " ".join(kinds) or "tensor", nan=nan)


def _tensor_type(declared: TypeProto) -> tuple[int, tuple[Dim, ...] | None]:
    kind = declared.WhichOneof("value")
    if kind not in ("tensor_type", "sparse_tensor_type"):
        return 0, None
    tensor = getattr(declared, kind)
    if not tensor.HasField("shape"):
        return tensor.elem_type, None
    return tensor.elem_type, tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
        for dim in tensor.shape.dim
    )


# Checking -----------------------------------------------------------------------------------------


def check(feed: Mapping[str, Any], specs: Sequence[InputSpec]) -> Feed:
    """Return *feed* in the types that the model declares.

    Floats change their width, integers too where every value fits. Raises DataError for unknown
    and missing inputs, wrong shapes, other types, and NaN.
    """
    _check_names(_named(feed), specs)
    return {spec.name: _checked(feed[spec.name], spec) for spec in specs}


def _named(feed: Any) -> Mapping[str, Any]:
    if isinstance(feed, Mapping):
        return feed
    raise DataError(
        f"a feed is a dict of arrays by input name, not {type(feed).__name__}; "
        "give a list of such dicts"
    )


def _check_names(names: Iterable[str], specs: Sequence[InputSpec]) -> None:
    given, wanted = list(names), [spec.name for spec in specs]
    known = ", ".join(wanted) or "none"
    for name in given:
        if name not in wanted:
            raise DataError(f"the model has no input {name!r}; its inputs are: {known}")
    for name in wanted:
        if name not in given:
            there = ", ".join(given) or "nothing"
            raise DataError(f"input {name!r} is missing; given are: {there}")


def _checked(value: Any, spec: InputSpec) -> Any:
    kind = spec.kind
    if kind.startswith("optional"):
        if value is None:
            return None
        kind = kind.removeprefix("optional").strip() or "tensor"
    if kind == "sequence":
        if not isinstance(value, (list, tuple)):
            raise DataError(f"input {spec.name!r} is a sequence; give a list of arrays")
        return [_checked_tensor(item, spec) for item in value]
    return _checked_tensor(value, spec) if kind == "tensor" else value


def _checked_tensor(value: Any, spec: InputSpec) -> Array:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(f"input {spec.name!r} is no array: {error}") from error
    if spec.elem_type:
        array = _cast(array, spec)
    declared = spec.shape
    if declared is not None and not _agrees(array.shape, declared):
        raise DataError(
            f"input {spec.name!r} has shape {_show(array.shape)}, the model wants {_show(declared)}"
        )
    if not spec.nan and _is_float(array.dtype) and np.isnan(array).any():
        raise DataError(f"input {spec.name!r} holds NaN; remove or replace such values")
    return array


def _agrees(shape: Sequence[int], declared: Sequence[Dim]) -> bool:
    return len(shape) == len(declared) and all(
        size == dim for size, dim in zip(shape, declared, strict=True) if isinstance(dim, int)
    )


def _show(shape: Sequence[Dim]) -> str:
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in shape) + "]"


def _cast(array: Array, spec: InputSpec) -> Array:
    wanted = _numpy_type(spec.elem_type)
    have = array.dtype
    if have == wanted and have.kind != "O":
        return array
    if spec.elem_type == TensorProto.STRING:
        if have.kind not in "OUS":
            raise _wrong_type(have, "strings", spec)
        texts = [t.decode() if isinstance(t, bytes) else str(t) for t in array.reshape(-1).tolist()]
        return np.array(texts, object).reshape(array.shape)
    if type(have) is np.dtypes.VoidDType and have.itemsize == wanted.itemsize:
        return np.ascontiguousarray(array).view(wanted).reshape(array.shape)
    if _is_float(have) and _is_float(wanted):
        with np.errstate(over="ignore"):
            cast = array.astype(wanted)
        fits = bool((np.isinf(cast) <= np.isinf(array)).all())
    elif _is_integer(have) and _is_integer(wanted):
        cast = array.astype(wanted)
        fits = bool(np.array_equal(cast.astype(have), array)) and not _wrapped(array, cast)
    else:
        raise _wrong_type(have, str(wanted), spec)
    if not fits:
        raise DataError(f"input {spec.name!r} holds values that do not fit into {wanted}")
    return cast


def _wrapped(array: Array, cast: Array) -> bool:
    """Say whether a change of signedness turned large values into negative ones, or back."""
    return bool(((array < array.dtype.type(0)) != (cast < cast.dtype.type(0))).any())


def _wrong_type(have: Any, wanted: str, spec: InputSpec) -> DataError:
    return DataError(
        f"input {spec.name!r} is {have}, the model wants {wanted}; convert it the way the model's "
        "preprocessing does"
    )


def _numpy_type(elem_type: int) -> np.dtype[Any]:
    return np.dtype(helper.tensor_dtype_to_np_dtype(elem_type))


def _is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.name.startswith(("float", "bfloat"))


def _is_integer(dtype: np.dtype[Any]) -> bool:
    return dtype.name.startswith(("int", "uint"))


# Calibration data ---------------------------------------------------------------------------------


class Calibration:
    """Feeds that can be gone through again and again; ``len`` counts them.

    A feed holds one sample, or as many as the model's declared batch size.
    """

    def __init__(
        self,
        feeds: Callable[[], Iterable[Mapping[str, Any]]],
        where: str = "calibration data",
        specs: Sequence[InputSpec] | None = None,
        labels: Array | None = None,
        count: int | None = None,
    ) -> None:
        """Stream what *feeds* returns anew at each call; *where* it comes from is for messages.

        Where *specs* are given every feed is checked when it is read. Raises DataError when there
        is none, or the first does not fit.
        """
        self.labels = labels
        """The right answers, one per sample, where the file holds them."""
        self._feeds, self._where, self._specs, self._count = feeds, where, specs, count
        if next(iter(self), None) is None:
            raise DataError(f"{where}: holds no samples")

    @classmethod
    def of(
        cls, feeds: Iterable[Mapping[str, Any]], specs: Sequence[InputSpec] | None = None
    ) -> Calibration:
        """Take feeds from Python: a list, or anything that can be iterated repeatedly.

        A generator, which cannot, is read into memory at once. Raises DataError.
        """
        if iter(feeds) is feeds:
            feeds = list(feeds)
        count = len(feeds) if isinstance(feeds, Sized) else None
        return cls(lambda: feeds, specs=specs, count=count)

    @classmethod
    def load(cls, path: Path, specs: Sequence[InputSpec]) -> Calibration:
        """Read calibration data for a model whose inputs are *specs*.

        *path* is an ``.npz`` file whose arrays are named as the inputs and have one sample per
        entry of their first axis (an array ``labels`` is kept aside), an ``.npy`` file for a model
        with one input, a folder with ``test_data_set_*`` in it, or one such folder. Where the
        model declares a batch size b > 1, b samples make one feed and a rest is left out.
        Raises DataError.
        """
        path = Path(path)
        if not path.exists():
            raise DataError(f"{path} does not exist")
        try:
            if path.is_dir():
                return _load_folder(path, specs)
            return _load_arrays(path, specs)
        except _UNREADABLE as error:
            raise DataError(f"{path} cannot be read: {error}") from error

    def fitted(self, specs: Sequence[InputSpec]) -> Calibration:
        """Return the same feeds, checked against *specs* unless they are checked already.

        Raises DataError when the first does not fit.
        """
        if self._specs is not None:
            return self
        return Calibration(self._feeds, self._where, specs, self.labels, self._count)

    def __iter__(self) -> Iterator[Feed]:
        for number, feed in enumerate(self._feeds()):
            try:
                found = _named(feed)
                checked = dict(found) if self._specs is None else check(found, self._specs)
            except DataError as error:
                raise DataError(f"{self._where}, sample {number}: {error}") from None
            yield checked

    def __len__(self) -> int:
        if self._count is None:
            self._count = sum(1 for _ in self._feeds())
        return self._count


_UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def _load_arrays(path: Path, specs: Sequence[InputSpec]) -> Calibration:
    names = [spec.name for spec in specs]
    if path.suffix == ".npz":
        arrays = _npz(path)
    elif path.suffix == ".npy":
        if len(specs) != 1:
            raise DataError(
                f"{path}: one array, but the model has {len(specs)} inputs; "
                f"give an .npz file with arrays named {', '.join(names)}"
            )
        with path.open("rb") as file:
            arrays = {names[0]: _mapped(file)}
    else:
        raise DataError(f"{path}: give an .npz or .npy file, or a folder of test_data_set_*")
    labels = None if LABELS in names else arrays.pop(LABELS, None)
    try:
        _check_names(arrays, specs)
        units = _units(arrays, specs)
        count = _count(arrays, units)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None

    def feeds() -> Iterator[Feed]:
        for i in range(count):
            yield {name: _sample(arrays[name], i, unit) for name, unit in units.items()}

    return Calibration(feeds, str(path), specs, labels, count)


def _sample(array: Array, index: int, unit: int | None) -> Array:
    if unit is None:
        return np.array(array[index])
    return np.array(array[index * unit : (index + 1) * unit])


def _units(arrays: Mapping[str, Array], specs: Sequence[InputSpec]) -> dict[str, int | None]:
    """Return how many entries of each array make a feed; None for one without its axis."""
    fixed: dict[str, int] = {}
    for spec in specs:
        if spec.kind != "tensor":
            raise DataError(
                f"input {spec.name!r} is a {spec.kind}; give a folder of test_data_set_* instead"
            )
        if arrays[spec.name].ndim == 0:
            raise DataError(f"array {spec.name!r} has no axes; its first one counts samples")
        if spec.shape and isinstance(spec.shape[0], int) and spec.shape[0]:
            fixed[spec.name] = spec.shape[0]
    sizes = {size for size in fixed.values() if size > 1}
    common = sizes.pop() if len(sizes) == 1 else 1
    return {
        spec.name: None
        if spec.shape is not None and arrays[spec.name].ndim == len(spec.shape) + 1
        else fixed.get(spec.name, common)
        for spec in specs
    }


def _count(arrays: Mapping[str, Array], units: Mapping[str, int | None]) -> int:
    """Return how many feeds there are."""
    counts = {name: len(arrays[name]) // (unit or 1) for name, unit in units.items()}
    for name, count in counts.items():
        if not count:
            raise DataError(
                f"array {name!r} holds {len(arrays[name])} samples, a feed takes {units[name] or 1}"
            )
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise DataError(f"the arrays disagree on the number of samples: {told}")
    return next(iter(counts.values()), 1)


def _npz(path: Path) -> dict[str, Array]:
    """Map the arrays of an ``.npz`` file; compressed ones by way of an unlinked file."""
    arrays: dict[str, Array] = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for entry in archive.infolist():
            name = entry.filename.removesuffix(".npy")
            if entry.compress_type == zipfile.ZIP_STORED:
                file.seek(entry.header_offset)
                lengths = struct.unpack("<26xHH", file.read(30))
                file.seek(sum(lengths), 1)
                arrays[name] = _mapped(file)
            else:
                with archive.open(entry) as packed, tempfile.TemporaryFile() as unpacked:
                    shutil.copyfileobj(packed, unpacked, 1 << 20)
                    unpacked.seek(0)
                    arrays[name] = _mapped(unpacked)
    return arrays


def _mapped(file: IO[bytes]) -> Array:
    """Map the ``.npy`` data that *file* stands at, without reading them."""
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(file)
    if version not in readers:
        raise ValueError("the array holds records, not numbers")
    shape, fortran, dtype = readers[version](file)
    if dtype.hasobject:
        raise ValueError("an array holds Python objects; save texts as NumPy's str type")
    if 0 in shape or not shape:
        return np.zeros(shape, dtype)
    order: Any = "F" if fortran else "C"
    return np.memmap(file, dtype, "r", offset=file.tell(), shape=shape, order=order)


def _load_folder(path: Path, specs: Sequence[InputSpec]) -> Calibration:
    sets = sorted(path.glob("test_data_set_*"), key=_number)
    if path.name.startswith("test_data_set_"):
        sets = [path]
    if not sets:
        raise DataError(f"{path}: holds no folder test_data_set_*")

    def feeds() -> Iterator[Feed]:
        return (_load_set(folder, specs) for folder in sets)

    recorded = [replace(spec, nan=True) for spec in specs]  # who wrote NaN down, meant it
    return Calibration(feeds, str(path), recorded, count=len(sets))


def _number(path: Path) -> tuple[int, str]:
    digits = re.search(r"(\d+)\D*$", path.name)
    return int(digits[1]) if digits else -1, path.name


def _load_set(folder: Path, specs: Sequence[InputSpec]) -> Feed:
    by_name = {spec.name: spec for spec in specs}
    feed: Feed = {}
    for file in sorted(folder.glob("input_*.pb"), key=_number):
        index = _number(file)[0]
        if not 0 <= index < len(specs):
            raise DataError(f"{file}: the model has {len(specs)} inputs")
        name, value = _read_value(file, specs[index].kind)
        feed[name if name in by_name else specs[index].name] = value
    return feed


def _optional(proto: onnx.OptionalProto) -> Any:
    """Decode an optional; onnx's own function fails on an empty one of a known type."""
    held = ("tensor_value", "sequence_value", "map_value", "optional_value")
    return numpy_helper.to_optional(proto) if any(map(proto.HasField, held)) else None


_MESSAGES: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "tensor": (TensorProto, numpy_helper.to_array),
    "sequence": (onnx.SequenceProto, numpy_helper.to_list),
    "optional": (onnx.OptionalProto, _optional),
    "optional sequence": (onnx.OptionalProto, _optional),
    "map": (onnx.MapProto, numpy_helper.to_dict),
}


def _read_value(file: Path, kind: str) -> tuple[str, Any]:
    if kind not in _MESSAGES:
        raise DataError(f"{file}: a {kind} cannot be read from a file")
    message, decode = _MESSAGES[kind]
    try:
        proto = message.FromString(file.read_bytes())
        return proto.name, decode(proto)
    except (DecodeError, ValueError, TypeError, OSError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error


# Made-up feeds ------------------------------------------------------------------------------------

_SIZES = (16, 5, 32, 3, 64, 2, 224, 1, 4, 8, 128, 256, 512)
_BATCHES = (2, 1, 3)
_RANKS = (2, 1, 4, 3, 0, 5)
_WORDS = ("a", "of", "the", "cat", "Rome", "", "x1", "3.5")
_ROUNDS = 3
_LARGEST = 1 << 18
"""How many times larger free dimensions make an array: what a model makes of it may be far more."""
_BYTES = (TensorProto.UINT8, TensorProto.INT8)


def generate(specs: Sequence[InputSpec], seed: int = 0) -> Iterator[Feed]:
    """Yield a few dozen made-up feeds that a model with these inputs may accept.

    They differ in the sizes of symbolic dimensions (a name has one size per feed) and in how their
    values are distributed. Integers stay within the declared range, else they are small and not
    negative. The same *seed* gives the same feeds.
    """
    if any(spec.kind not in _MAKEABLE for spec in specs):
        return
    for number in range(_ROUNDS * len(_SIZES)):
        draw = _Draw(number, np.random.default_rng((seed, number)))
        shapes = {spec.name: draw.shape(spec) for spec in specs}
        if all(_is_small(shapes[spec.name], spec) for spec in specs):
            yield {spec.name: draw.value(spec, shapes[spec.name]) for spec in specs}


_MAKEABLE = ("tensor", "sequence", "optional", "optional sequence")


def _is_small(shape: tuple[int, ...], spec: InputSpec) -> bool:
    fixed = [dim for dim in spec.shape or () if isinstance(dim, int) and dim]
    return bool(np.prod(shape, dtype=float) <= _LARGEST * np.prod(fixed, dtype=float))


class _Draw:
    """The choices behind one made-up feed."""

    def __init__(self, number: int, random: np.random.Generator) -> None:
        self.number, self.random = number, random
        turn = number // len(_SIZES)
        self.spread = turn == 1
        """Whether all dimensions differ, the batch too; else it is small and the rest are equal."""
        self.batch_is_free = turn == 2
        """Whether the batch is the first free dimension of an input, else the very first."""
        self.sizes: dict[str, int] = {}

    def shape(self, spec: InputSpec) -> tuple[int, ...]:
        declared = spec.shape
        if declared is None:
            declared = (None,) * _RANKS[self.number % len(_RANKS)]
        free = [axis for axis, dim in enumerate(declared) if not isinstance(dim, int)]
        batch = free[0] if free and self.batch_is_free else 0
        return tuple(
            dim if isinstance(dim, int) else self.size(dim, axis == batch)
            for axis, dim in enumerate(declared)
        )

    def size(self, name: str | None, is_batch: bool) -> int:
        """Return a size; ``a + b`` and ``a + 1`` are sums."""
        if name is None:
            return self.new_size(is_batch, self.random.integers(len(_SIZES)))
        terms = [term.strip() for term in name.split("+")]
        total = 0
        for term in terms:
            if term.isdecimal():
                total += int(term)
            else:
                order = len(self.sizes)
                self.sizes.setdefault(term, self.new_size(is_batch, order))
                total += self.sizes[term]
        return total

    def new_size(self, is_batch: bool, order: int | np.integer[Any]) -> int:
        if is_batch and not self.spread:
            return _BATCHES[self.number % len(_BATCHES)]
        return _SIZES[(self.number + (int(order) if self.spread else 0)) % len(_SIZES)]

    def value(self, spec: InputSpec, shape: tuple[int, ...]) -> Any:
        if spec.kind.endswith("sequence"):
            return [self.tensor(spec, shape) for _ in range(2)]
        return self.tensor(spec, shape)

    def tensor(self, spec: InputSpec, shape: tuple[int, ...]) -> Array:
        elem = spec.elem_type or TensorProto.FLOAT
        if elem == TensorProto.STRING:
            words = itertools.islice(itertools.cycle(_WORDS), int(np.prod(shape, dtype=int)))
            return np.array(list(words), object).reshape(shape)
        dtype = _numpy_type(elem)
        if elem == TensorProto.BOOL:
            return np.asarray(self.random.random(shape) < 0.5)
        if _is_integer(dtype) or spec.high is not None:
            return self.integers(spec, shape).astype(dtype)
        return self.floats(shape).astype(dtype)

    def integers(self, spec: InputSpec, shape: tuple[int, ...]) -> Array:
        """Draw from the declared range, else what suits masks, flags and bytes."""
        style = self.number % 3
        if spec.low is not None or spec.high is not None:
            low = spec.low or 0
            high = low + 3 if spec.high is None else max(spec.high, low + 1)
        elif spec.elem_type in _BYTES and (style != 1 or len(shape) > 2):  # images at least
            low, high = (0, 256) if spec.elem_type == TensorProto.UINT8 else (-128, 128)
        elif shape and (
            style == 0 or "mask" in spec.name.lower()
        ):  # ones, then padding: a row without any one is no fair question
            lengths = self.random.integers(1, max(shape[-1], 1) + 1, (*shape[:-1], 1))
            return np.asarray(np.arange(shape[-1]) < lengths).astype(np.int64)
        else:
            low, high = (1, 2) if style < 2 else (0, 3)
        return np.asarray(self.random.integers(low, high, shape))

    def floats(self, shape: tuple[int, ...]) -> Array:
        style = self.number % 3
        if style == 0:
            return np.asarray(self.random.standard_normal(shape))
        values = np.asarray(self.random.random(shape))
        return values if style == 1 else values * 255
