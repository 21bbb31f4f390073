"""Packing and unpacking files."""

from __future__ import annotations

import contextlib
import filecmp
import importlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from onnxslim.errors import ModelError, OutputError
from onnxslim.ir import Model, wire
from onnxslim.ir.weights import Store, mapped, replace

if TYPE_CHECKING:
    from onnxslim.pack.container import Packed

Source = str | os.PathLike[str]

SUFFIX = ".onnxz"
_MAGIC = b"ONXZ"
_RELEASED = 1 << 23
_HARMLESS, _RATIO = 1 << 28, 1000
"""What would unpack to more than so many bytes, and to so many times its own, may be a bomb."""


def is_packed(path: Source) -> bool:
    """Say whether a packed model lies at *path*."""
    try:
        with open(path, "rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except (OSError, ValueError):
        return False


def require() -> None:
    """Raise InputError where the libraries that packing needs are not installed."""
    importlib.import_module("onnxslim.pack.libraries")


def pack(model: Source, output: Source) -> tuple[int, int]:
    """Write the file *model*, and its external data if any, to *output* in fewest bytes.

    Returns how many there were and how many there are. Raises ModelError for what is not an ONNX
    model, and OutputError.
    """
    from onnxslim.pack import container, layout

    source, store = Path(model), Store()
    files = {"": _mapped(source, store)}
    with _told(source):
        for name in _data_files(files[""]):
            files[name] = _mapped(_inside(source.parent, name), store)
        content = container.Content(files, store.forget_pages)
        spans = layout.spans(files[""], content.places)
        store.forget_pages()
    with _written(Path(output)) as target:
        replace(target, container.packed(content, spans))
    return content.size, target.stat().st_size


def unpack(packed: Source, output: Source, most: int | None = None) -> tuple[int, int]:
    """Write the model that was packed to *output*, bit for bit, its external data beside it.

    It may take *most* bytes; if not given, any number that is no thousand times those of *packed*.
    Returns how many there were and how many there are. Raises ModelError for what is not a packed
    model or is damaged, and OutputError.
    """
    from onnxslim.pack.container import Packed

    source, store = Path(packed), Store()
    data = _mapped(source, store)
    with _told(source):
        content = Packed(data)
        _refuse_bombs(content.size, len(data), most)
    with _written(Path(output)) as target:
        paths = [target, *(_inside(target.parent, name) for name, _ in content.members[1:])]
        with tempfile.TemporaryDirectory(prefix=".unpack-", dir=target.parent) as folder:
            made = [Path(folder) / str(index) for index in range(len(paths))]
            with _told(source):
                _fill(made, content, store.forget_pages)
                if _data_files(_mapped(made[0], store)) != [
                    name for name, _ in content.members[1:]
                ]:
                    raise ModelError("its files are not those that the model refers to")
                if target in paths[1:]:
                    raise ModelError(f"its external data is called {target.name}; choose another")
            for path, there in reversed([*zip(paths, made, strict=True)]):
                _move(there, path, replaced=path is target)
    return len(data), content.size


def load(path: Source, most: int | None = None, lazy: bool = False) -> Model:
    """Read the model at *path*, packed or not; *most* as in `unpack`, *lazy* as in `Model`.

    Raises ModelError.
    """
    if not is_packed(path):
        return Model.load(path, lazy)
    with tempfile.TemporaryDirectory(prefix="onnxslim-", ignore_cleanup_errors=True) as folder:
        file = Path(folder) / "model.onnx"
        unpack(path, file, most)
        model = Model.load(file)
    model.path, model.pristine = None, False
    return model


def _mapped(path: Path, store: Store) -> memoryview:
    try:
        return mapped(path, store).data
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"{path} cannot be read: {reason}") from error


def save(model: Model, output: Source) -> None:
    """Write *model* packed to *output*. Raises OutputError."""
    with tempfile.TemporaryDirectory(prefix="onnxslim-") as folder:
        model.save(Path(folder) / "model.onnx")
        pack(Path(folder) / "model.onnx", output)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Name the file in an error."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{path}: {error}; get it again, or check the download") from error


@contextlib.contextmanager
def _written(path: Path) -> Iterator[Path]:
    """Turn what goes wrong in writing to *path* into an OutputError."""
    if path.is_dir():
        raise OutputError(f"{path} is a directory; name the output file")
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent} does not exist; make the folder first")
    try:
        yield path
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{path} cannot be written: {reason}") from error


def _data_files(model: memoryview) -> list[str]:
    """Return the names of the external data of a serialised model. Raises ModelError."""
    return sorted({place.location for place in wire.stored(model)} - {""})


def _inside(folder: Path, name: str) -> Path:
    """Return the path of external data called *name*, which may not leave *folder*."""
    pure = PurePosixPath(name)
    path = folder / pure
    strange = pure.is_absolute() or ".." in pure.parts or set(name) & set("\\:\0")
    if not name or strange or not path.resolve().is_relative_to(folder.resolve()):
        raise ModelError(f"external data {name!r} is outside the model's folder")
    return path


def _refuse_bombs(size: int, packed: int, most: int | None) -> None:
    allowed = max(_HARMLESS, _RATIO * packed) if most is None else most
    if size > allowed:
        raise ModelError(
            f"it unpacks to {size} bytes where {allowed} are allowed; "
            "if you trust it, allow more with --max-bytes"
        )


def _fill(paths: list[Path], content: Packed, forget: Callable[[], None]) -> None:
    """Write the members of *content* to *paths*; *forget* gives back what reading it took."""
    pieces, piece, written = content.content(), memoryview(b""), 0
    for path, (_, size) in zip(paths, content.members, strict=True):
        with path.open("wb", buffering=1 << 20) as file:
            while size:
                piece = piece or memoryview(next(pieces))
                part, piece = piece[:size], piece[size:]
                size -= file.write(part)
                written += len(part)
                if written > _RELEASED:
                    written = 0
                    forget()
    for _ in pieces:  # nothing is left but the checksum
        pass


def _move(made: Path, path: Path, replaced: bool) -> None:
    """Move a file into place; external data never takes the place of other data."""
    if not replaced and path.exists() and not filecmp.cmp(made, path, shallow=False):
        raise OutputError(f"{path} exists and is other data; move it, or unpack elsewhere")
    path.parent.mkdir(parents=True, exist_ok=True)
    os.replace(made, path)
