"""The bytes of tensors: memory maps, spooling, external data, atomic saves.

A `Store` holds the buffers that `wire` lifted out of a model, by key. Buffers are read-only views
into the model file, its external data files, or an unlinked temporary file, so that a model of
many gigabytes costs next to no memory of its own.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import mmap
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx_graphsurgeon.ir.tensor import LazyValues

from onnxslim.errors import ModelError, OutputError
from onnxslim.ir import wire
from onnxslim.ir.wire import Buffer

Array = npt.NDArray[Any]

SPOOL_FROM = 1 << 20
"""Arrays of at least this many bytes that a pass makes are kept in a temporary file."""
_SPOOL_SIZE = 1 << 30
_CHUNK = 1 << 24
"""So many bytes of mapped files are held in memory while they are written."""
_LOOKED_AT = 1 << 27
"""So many are while passes look at weights."""
LARGEST_FILE = 2**31 - 2**20
"""Protobuf messages end at 2 GiB; a larger model needs external data."""
_ALIGNMENT, _ALIGN_FROM = 64, 1 << 16
KNOWN_TYPES = frozenset(TensorProto.DataType.values()) - {TensorProto.UNDEFINED}
"""Element types that this release of onnx can decode."""
_PACKED = {
    number: width
    for name, number in TensorProto.DataType.items()
    for width, packed in ((2, "INT2"), (4, "INT4"), (4, "FLOAT4"), (6, "FLOAT6"))
    if name.removeprefix("U").startswith(packed)
}
"""Bits of the element types that share bytes."""


@functools.cache
def numpy_type(elem_type: int) -> np.dtype[Any]:
    """Return the NumPy (or ml_dtypes) type of a ``TensorProto.DataType``. Raises ModelError."""
    if elem_type not in KNOWN_TYPES:
        raise ModelError(f"onnx {onnx.__version__} knows no element type {elem_type}; update it")
    return np.dtype(helper.tensor_dtype_to_np_dtype(elem_type))


def elem_type(dtype: npt.DTypeLike) -> int:
    """Return the ``TensorProto.DataType`` of a NumPy type; strings may come as object arrays."""
    if np.dtype(dtype).kind in "OUS":
        return int(TensorProto.STRING)
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def bits(elem: int) -> int:
    """Return how many bits an element takes in a file; strings count one byte."""
    if elem in _PACKED:
        return _PACKED[elem]
    return 8 if elem == TensorProto.STRING else 8 * numpy_type(elem).itemsize


class Store:
    """Buffers by key; shared by a model and its copies."""

    def __init__(self) -> None:
        self._buffers: dict[str, Buffer] = {}
        self.external: dict[str, int] = {}
        """Bytes of the external data files that the model came with, by location."""
        self.files: list[tuple[Path, npt.NDArray[np.uint8]]] = []
        """Mapped files that buffers are views of."""
        self._passed = 0

    def keep(self, buffer: Buffer) -> str:
        """Take *buffer* in and return its key."""
        key = str(len(self._buffers))
        self._buffers[key] = buffer
        return key

    def buffer(self, key: str) -> Buffer:
        """Return the bytes behind *key*. Raises ModelError for a key that was never given out."""
        if key not in self._buffers:
            raise ModelError(f"external data {wire.MARK + key!r} does not exist")
        return self._buffers[key]

    def locate(self, buffer: Buffer) -> tuple[Path, int] | None:
        """Return the file and the offset that *buffer* is a view of, if it is one."""
        at = buffer.__array_interface__["data"][0]
        for path, mapped in self.files:
            start = mapped.__array_interface__["data"][0]
            if start <= at and at + len(buffer) <= start + len(mapped):
                return path, at - start
        return None

    def forget_pages(self) -> None:
        """Give back the memory of mapped files; they are read anew when needed."""
        for _, mapped in self.files:
            with contextlib.suppress(AttributeError, ValueError, OSError):
                mapped._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]

    def pass_by(self, size: int) -> None:
        """Count bytes that were looked at, and give back the memory of mapped files at times."""
        self._passed += size
        if self._passed >= _LOOKED_AT:
            self._passed = 0
            self.forget_pages()

    def stream(self, content: Iterable[bytes | memoryview | Buffer]) -> Iterator[memoryview]:
        """Yield the bytes of *content*, and give back the memory of mapped files on the way."""
        passed = 0
        for piece in map(wire.view, content):
            for start in range(0, len(piece), _CHUNK):
                part = piece[start : start + _CHUNK]
                yield part
                passed += len(part)
                if passed >= _CHUNK:
                    passed = 0
                    self.forget_pages()

    def tensor_bytes(self, tensor: TensorProto) -> Buffer:
        """Return the raw bytes of *tensor*, lifted or not."""
        if wire.is_marked(tensor):
            return self.buffer(wire.marked(tensor)[0])
        return np.frombuffer(tensor.raw_data, np.uint8)


class Weight(LazyValues):
    """Tensor values that stay where they are until somebody looks."""

    tensor: TensorProto

    def __init__(self, tensor: TensorProto, store: Store) -> None:
        """Stand for *tensor*, whose bytes may lie in *store*."""
        self.tensor, self.store = tensor, store
        self.shape: tuple[int, ...] = tuple(tensor.dims)
        self._array: Array | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy type of the elements."""
        return numpy_type(self.tensor.data_type)

    @property
    def nbytes(self) -> int:
        """Bytes that the values take in a file."""
        return -(-math.prod(self.shape) * bits(self.tensor.data_type) // 8)

    def load(self) -> Array:
        """Return the values as a read-only array; a view where the layout allows."""
        if self._array is None:
            self._array = self._decode()
            self._array.flags.writeable = False
        return self._array

    def _decode(self) -> Array:
        tensor = self.tensor
        numpy_type(tensor.data_type)  # refuses what cannot be decoded
        lifted = wire.is_marked(tensor)
        if lifted and tensor.data_type != TensorProto.STRING and not bits(tensor.data_type) % 8:
            buffer = self.store.tensor_bytes(tensor)
            if len(buffer) != math.prod(self.shape) * self.dtype.itemsize:
                raise ModelError(
                    f"tensor {tensor.name!r}: {len(buffer)} bytes of data do not make "
                    f"{self.dtype}{list(self.shape)}"
                )
            return buffer.view(self.dtype).reshape(self.shape)
        try:
            if min(self.shape, default=0) < 0:
                raise ValueError(f"its shape is {list(self.shape)}")
            if tensor.data_type == TensorProto.STRING:
                return np.array(_texts(tensor.string_data), dtype=object).reshape(self.shape)
            return spooled(numpy_helper.to_array(self.plain()))
        except (ValueError, TypeError) as error:
            raise ModelError(f"tensor {tensor.name!r}: {error}") from error

    def plain(self) -> TensorProto:
        """Return the tensor with its bytes inside."""
        return plain(self.tensor, self.store)


def _texts(strings: Iterable[bytes]) -> list[str] | list[bytes]:
    try:
        return [item.decode() for item in strings]
    except UnicodeDecodeError:
        return list(strings)


def plain(tensor: TensorProto, store: Store) -> TensorProto:
    """Return *tensor* with its bytes inside: itself, or a filled-in copy."""
    if not wire.is_marked(tensor):
        return tensor
    key, _ = wire.marked(tensor)
    copy = TensorProto()
    copy.CopyFrom(tensor)
    del copy.external_data[:]
    copy.ClearField("data_location")
    copy.raw_data = store.buffer(key).tobytes()
    return copy


def to_tensor(array: Array, name: str, store: Store) -> TensorProto:
    """Return *array* as a ``TensorProto``, its bytes in *store* when there are many."""
    elem = elem_type(array.dtype)
    if bits(elem) % 8 or elem == TensorProto.STRING or array.nbytes < wire.THRESHOLD:
        return _shortest(numpy_helper.from_array(array, name), array)
    tensor = TensorProto(dims=array.shape, data_type=elem, name=name or None)
    buffer = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    tensor.MergeFrom(wire.mark(store.keep(buffer), len(buffer), explicit=False))
    return tensor


def _shortest(tensor: TensorProto, array: Array) -> TensorProto:
    """Write small integers as varints where that takes fewer bytes."""
    field: dict[int, str] = {TensorProto.INT64: "int64_data", TensorProto.INT32: "int32_data"}
    if tensor.data_type not in field or not array.size:
        return tensor
    packed = TensorProto(dims=tensor.dims, data_type=tensor.data_type, name=tensor.name or None)
    getattr(packed, field[tensor.data_type]).extend(array.reshape(-1).tolist())
    return packed if packed.ByteSize() < tensor.ByteSize() else tensor


class _Spool:
    """An unlinked temporary file, mapped once: every map of its own would cost a descriptor."""

    def __init__(self, size: int) -> None:
        self.file = tempfile.TemporaryFile(prefix="onnxslim-", buffering=0)  # noqa: SIM115
        self.end = 0
        self.file.truncate(size)  # a hole: takes no space until written
        self.bytes = np.asarray(np.memmap(self.file, np.uint8, "r", shape=(size,)))

    def add(self, data: Buffer) -> Buffer:
        self.file.seek(self.end)
        written = 0
        while written < len(data):
            written += self.file.write(data[written:].data)
        kept = self.bytes[self.end : self.end + len(data)]
        self.end += len(data) + -len(data) % _ALIGNMENT
        return kept


_spools: dict[int, _Spool] = {}
"""The file in use, by process: forked ones must not share it."""
_spooling = threading.Lock()


def _spool(data: Buffer) -> Buffer:
    with _spooling:
        spool = _spools.get(os.getpid())
        if spool is None or len(spool.bytes) - spool.end < len(data):
            spool = _spools[os.getpid()] = _Spool(max(_SPOOL_SIZE, len(data)))
        return spool.add(data)


def spooled(values: Array) -> Array:
    """Return *values* read-only; large arrays move to an unlinked temporary file."""
    array = np.ascontiguousarray(values) if np.ndim(values) else np.asarray(values)
    if array.nbytes >= SPOOL_FROM and array.dtype.kind != "O":
        raw = _spool(array.reshape(-1).view(np.uint8))
        return raw.view(array.dtype).reshape(array.shape)
    if array.flags.writeable:
        array = array.view()
        array.flags.writeable = False
    return array


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def mapped(path: Path, store: Store | None = None) -> Buffer:
    """Map the file at *path*; *store* can give back the memory of it. Raises OSError."""
    if path.stat().st_size == 0:
        return np.zeros(0, np.uint8)
    whole = np.memmap(path, np.uint8, "r")
    if store is not None:
        store.files.append((path, whole))
    return np.asarray(whole)


def read(path: Path, store: Store) -> ModelProto:
    """Read the model at *path* as a skeleton: large weights stay in their files.

    Raises ModelError for anything that is not a readable ONNX model.
    """
    try:
        if path.is_dir():
            raise ModelError(f"{path} is a directory; give the .onnx file inside it")
        buffer = mapped(path, store)
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise ModelError(f"{path} cannot be read: {_reason(error)}") from error
    if not len(buffer):
        raise ModelError(f"{path} is empty")
    try:
        skeleton = ModelProto.FromString(wire.deflate(buffer.data, store.keep))
    except Exception as error:
        reason = str(error) if isinstance(error, ModelError) else "not an ONNX model"
        raise ModelError(f"{path}: {reason}; export it again, or check the download") from error
    if not skeleton.HasField("graph"):
        raise ModelError(f"{path}: holds no graph; is it an ONNX model?")
    resolve_external(skeleton, path.parent, store)
    return skeleton


def lift(proto: ModelProto, store: Store) -> ModelProto:
    """Copy *proto* as a skeleton, its large weights moved to *store*. Raises ModelError."""
    try:
        content = proto.SerializeToString()
    except Exception as error:  # protobuf has no common base for its encoding errors
        raise ModelError("the ModelProto is over 2 GiB; give the path of its file") from error
    return ModelProto.FromString(wire.deflate(memoryview(content), store.keep))


def tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Yield every TensorProto of *model* that may hold external data, in file order."""
    stack: list[Any] = [model.graph, *model.functions]
    for step in model.training_info:
        stack += (step.initialization, step.algorithm)
    while stack:
        item = stack.pop()
        defaults = item.attribute_proto if isinstance(item, onnx.FunctionProto) else ()
        for attribute in itertools.chain(*(node.attribute for node in item.node), defaults):
            yield from attribute.tensors
            yield from _dense(attribute.sparse_tensors)
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("sparse_tensor"):
                yield from _dense((attribute.sparse_tensor,))
            stack += [attribute.g] if attribute.HasField("g") else []
            stack += attribute.graphs
        if isinstance(item, onnx.GraphProto):
            yield from item.initializer
            yield from _dense(item.sparse_initializer)


def _dense(sparse: Iterable[onnx.SparseTensorProto]) -> Iterator[TensorProto]:
    for tensor in sparse:
        yield tensor.values
        yield tensor.indices


def resolve_external(skeleton: ModelProto, folder: Path | None, store: Store) -> None:
    """Turn external-data references of *skeleton* into marks; small tensors move inside.

    Paths that leave *folder* are refused.
    """
    files: dict[str, Buffer] = {}
    for tensor in tensors(skeleton):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        if wire.is_marked(tensor):
            store.tensor_bytes(tensor)  # a file may not name marks of its own
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        if folder is None:
            raise ModelError(
                f"tensor {tensor.name!r} lies in {location!r}; give the path of the model instead"
            )
        if location not in files:
            files[location] = _external_file(tensor.name, location, folder, store)
            store.external[location] = len(files[location])
        data = _external_slice(tensor, entries, files[location])
        del tensor.external_data[:]
        tensor.ClearField("data_location")
        if len(data) < wire.THRESHOLD:
            tensor.raw_data = data.tobytes()
        else:
            tensor.MergeFrom(wire.mark(store.keep(data), len(data), explicit=False))


def _external_file(name: str, location: str, folder: Path, store: Store) -> Buffer:
    pure = PurePosixPath(location.replace("\\", "/"))
    inside = location and not pure.is_absolute() and ".." not in pure.parts
    path = folder / pure
    try:
        if inside and path.resolve().is_relative_to(folder.resolve()):
            return mapped(path, store)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"tensor {name!r}: external data {location!r} cannot be read: {_reason(error)}"
        ) from error
    raise ModelError(
        f"tensor {name!r}: external data {location!r} is outside the model's folder; "
        "move the data file next to the model"
    )


def _external_slice(tensor: TensorProto, entries: dict[str, str], data: Buffer) -> Buffer:
    try:
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", len(data) - offset))
        expected = -(-math.prod(tensor.dims) * bits(tensor.data_type) // 8)
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f"tensor {tensor.name!r}: bad external data entry: {error}") from error
    if offset < 0 or length < 0 or offset + length > len(data) or length < expected:
        raise ModelError(
            f"tensor {tensor.name!r}: {expected} bytes at offset {offset} of "
            f"{entries['location']!r} do not exist (the file has {len(data)}); is it complete?"
        )
    return data[offset : offset + expected]


def pieces(skeleton: ModelProto, store: Store) -> list[bytes | memoryview | Buffer]:
    """Return the single-file form of *skeleton* in pieces, ready to be streamed."""
    return wire.inflate(skeleton.SerializeToString(deterministic=True), store.buffer)


def filled(skeleton: ModelProto, store: Store) -> ModelProto:
    """Return a complete ``ModelProto``, weights inside."""
    for tensor in tensors(skeleton):
        if wire.is_marked(tensor):
            key, explicit = wire.marked(tensor)
            del tensor.external_data[:]
            tensor.ClearField("data_location")
            if explicit:
                tensor.data_location = TensorProto.DEFAULT
            tensor.raw_data = store.buffer(key).tobytes()
    return skeleton


def size(skeleton: ModelProto, store: Store) -> int:
    """Return the bytes that the model takes on disk in single-file form."""
    return sum(map(len, pieces(skeleton, store)))


def write(skeleton: ModelProto, store: Store, path: Path, external: bool | None = None) -> None:
    """Write the model to *path* atomically: a killed run leaves what was there before.

    *external* asks for weights in a file of their own beside the model (``NAME.data``); None
    chooses them when the model would not fit in one protobuf message. Raises OutputError.
    """
    try:
        if path.is_dir():
            raise OutputError(f"{path} is a directory; name the output file")
        if not path.parent.is_dir():
            raise OutputError(f"{path.parent} does not exist; make the folder first")
        old_data = _data_files_of(path)
        if external is None:
            external = size(skeleton, store) >= LARGEST_FILE
        kept = _write_external(skeleton, store, path) if external else None
        if kept is None:
            replace(path, store.stream(pieces(skeleton, store)))
        for stale in old_data - {kept}:
            with contextlib.suppress(OSError):
                stale.unlink()
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} cannot be written: {_reason(error)}") from error


def replace(path: Path, content: Iterable[bytes | memoryview]) -> None:
    """Write *content* to a temporary file beside *path*, then rename it over *path*."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:40]}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb", buffering=1 << 20) as file:
            for piece in content:
                file.write(piece)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def replace_file(path: Path, original: Path) -> None:
    """Copy *original* over *path* atomically. Raises OutputError."""
    if path.exists() and path.samefile(original):
        return
    try:
        store = Store()
        replace(path, store.stream([mapped(original, store)]))
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error


def lend(skeleton: ModelProto, store: Store, folder: Path) -> Path:
    """Write the model into *folder* for a reader in this run, and return its path.

    Weights that lie in a file already are not written again: a hard link to that file is made in
    *folder* where the file system allows. Raises OSError.
    """
    links: dict[Path, str] = {}
    with (folder / "weights.bin").open("wb") as file:
        for tensor in tensors(skeleton):
            if not wire.is_marked(tensor):
                continue
            buffer = store.tensor_bytes(tensor)
            place = _link(store.locate(buffer), folder, links)
            if place is None:
                place = "weights.bin", file.tell()
                file.write(buffer.data)
            _point(tensor, *place, len(buffer))
    path = folder / "model.onnx"
    path.write_bytes(skeleton.SerializeToString())
    return path


def _link(
    place: tuple[Path, int] | None, folder: Path, links: dict[Path, str]
) -> tuple[str, int] | None:
    """Return the place of a weight through a link in *folder*; None where none can be made."""
    if place is None:
        return None
    path, offset = place
    if path not in links:
        links[path] = f"link{len(links)}.bin"
        try:
            os.link(path, folder / links[path])
        except OSError:
            links[path] = ""
    return (links[path], offset) if links[path] else None


def _point(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    """Make *tensor* refer to external data."""
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


def _write_external(skeleton: ModelProto, store: Store, path: Path) -> Path:
    lifted = [tensor for tensor in tensors(skeleton) if wire.is_marked(tensor)]
    content, buffers, offset = list[bytes | Buffer](), list[tuple[TensorProto, int]](), 0
    for tensor in lifted:
        buffer = store.tensor_bytes(tensor)
        padding = -offset % _ALIGNMENT if len(buffer) >= _ALIGN_FROM else 0
        content += (b"\0" * padding, buffer)
        buffers.append((tensor, offset + padding))
        offset += padding + len(buffer)
    target = _data_file(path, content, store)
    for tensor, at in buffers:
        _point(tensor, target.name, at, len(store.tensor_bytes(tensor)))
    replace(path, [skeleton.SerializeToString(deterministic=True)])
    return target


def _data_file(path: Path, content: list[bytes | Buffer], store: Store) -> Path:
    """Write *content* to a data file that no model can be using, unless it is there already."""
    target = path.with_name(f"{path.name}.data")
    if target.exists():
        if _holds(target, store.stream(content)):
            return target
        import hashlib  # loads OpenSSL

        digest = hashlib.sha256()
        for part in store.stream(content):
            digest.update(part)
        target = path.with_name(f"{path.name}.{digest.hexdigest()[:8]}.data")
    replace(target, store.stream(content))
    return target


def _holds(path: Path, content: Iterable[memoryview]) -> bool:
    """Say whether the file at *path* holds *content* and nothing else."""
    with path.open("rb") as file:
        return all(file.read(len(part)) == bytes(part) for part in content) and not file.read(1)


def _data_files_of(path: Path) -> set[Path]:
    """Return the ``NAME*.data`` files that the model now at *path* refers to."""
    if not path.is_file():
        return set()
    try:
        skeleton = ModelProto.FromString(wire.deflate(mapped(path).data, lambda _: "0"))
    except Exception:
        return set()
    names = {
        entry.value
        for tensor in tensors(skeleton)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    own = (name for name in names if name.startswith(path.name) and name.endswith(".data"))
    return {path.with_name(name) for name in own if path.with_name(name).is_file()}
