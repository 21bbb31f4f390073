"""A model being rewritten: its graphs, and everything else that its file said."""

from __future__ import annotations

import functools
import os
import re
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import onnx

from onnxslim.errors import InputError, ModelError
from onnxslim.ir import serde, weights, wire
from onnxslim.ir.graph import (
    STANDARD_DOMAINS,
    Constant,
    Function,
    Graph,
    Node,
    Variable,
    adopt,
)
from onnxslim.ir.surgery import sort, walk
from onnxslim.ir.weights import Array, Store, Weight

_NUMBERED = re.compile(r"_\d+$")
_LETTERS = string.ascii_letters


class Names:
    """One scope of tensor names for the whole model; new names are short and never clash."""

    def __init__(self, borne: Callable[[], set[str]]) -> None:
        """Avoid the names that *borne* returns, which is asked when a name is first needed."""
        self._borne = borne
        self.renew()

    def renew(self) -> None:
        """Ask anew which names are taken: those of tensors that are gone are free again."""
        self._asked: set[str] | None = None
        self._counters: dict[str, int] = {}
        self._shortest = 0

    @property
    def _taken(self) -> set[str]:
        if self._asked is None:
            self._asked = self._borne()
        return self._asked

    def fresh(self, hint: str) -> str:
        """Return a new name: *hint* itself where it is free, else with a number."""
        hint = _NUMBERED.sub("", hint) or "t"
        name = hint
        while name in self._taken:
            count = self._counters[hint] = self._counters.get(hint, -1) + 1
            name = f"{hint}_{count}"
        self._taken.add(name)
        return name

    def shortest(self) -> str:
        """Return a new name of as few letters as possible."""
        while True:
            name, rest = "", self._shortest
            self._shortest += 1
            while not name or rest:
                rest, letter = divmod(rest, len(_LETTERS))
                name += _LETTERS[letter]
            if name not in self._taken:
                self._taken.add(name)
                return name

    def __contains__(self, name: str) -> bool:
        """Say whether *name* is taken."""
        return name in self._taken

    def take(self, name: str) -> None:
        """Never return *name*."""
        self._taken.add(name)

    def release(self, names: Iterable[str]) -> None:
        """Let *names* that came from `fresh` be given again: nothing bears them any more."""
        for name in names:
            self._taken.discard(name)
            number = _NUMBERED.search(name)
            if number is not None:
                hint = name[: number.start()]
                before = int(number[0][1:]) - 1
                self._counters[hint] = min(before, self._counters.get(hint, before))


class Model:
    """An ONNX model being rewritten.

    ``graph`` is the main graph and ``functions`` are the bodies of local functions. Weights are
    read-only arrays. `load` and `from_proto` raise ModelError for what is not a readable model;
    where they are *lazy*, graphs are made when one is first asked for, which may raise it too.
    """

    def __init__(self, skeleton: onnx.ModelProto, store: Store, path: Path | None = None) -> None:
        """Take *skeleton*, whose large weights lie in *store*; *path* is its file, if any."""
        self.store, self.path, self.pristine = store, path, path is not None
        """`pristine` says that the file at `path` still is this model; edits clear it."""
        self._skeleton: onnx.ModelProto | None = skeleton
        """What the graphs will be made from; None once they are."""
        self._names: Names | None = None

    @functools.cached_property
    def _content(self) -> tuple[Graph, list[Function], onnx.ModelProto]:
        assert self._skeleton is not None
        made = serde.Importer(self._skeleton, self.store).run()
        self._skeleton = None
        return made

    @property
    def graph(self) -> Graph:
        """The main graph."""
        return self._content[0]

    @property
    def functions(self) -> list[Function]:
        """The bodies of local functions."""
        return self._content[1]

    @functions.setter
    def functions(self, bodies: list[Function]) -> None:
        self._content[1][:] = bodies

    @property
    def _shell(self) -> onnx.ModelProto:
        """What else the file says."""
        return self._content[2]

    @classmethod
    def load(cls, path: str | os.PathLike[str], lazy: bool = False) -> Model:
        """Read an ``.onnx`` file; its weights stay on disk until somebody looks at them."""
        store, file = Store(), Path(path)
        return cls(weights.read(file, store), store, file)._made(lazy)

    @classmethod
    def from_proto(
        cls,
        proto: onnx.ModelProto,
        folder: str | os.PathLike[str] | None = None,
        lazy: bool = False,
    ) -> Model:
        """Import *proto*, which stays untouched; *folder* is where its external data lies."""
        store = Store()
        skeleton = weights.lift(proto, store)
        weights.resolve_external(skeleton, None if folder is None else Path(folder), store)
        if not skeleton.HasField("graph"):
            raise ModelError("the ModelProto holds no graph")
        return cls(skeleton, store)._made(lazy)

    def _made(self, lazy: bool) -> Model:
        if not lazy:
            _ = self._content
        return self

    def become(self, skeleton: onnx.ModelProto) -> None:
        """Turn into what *skeleton*, an edited one of this model, says."""
        self._content = serde.Importer(skeleton, self.store).run()
        self._skeleton = self._names = None
        self.pristine = False

    def copy(self) -> Model:
        """Copy the graphs; the read-only weights are shared."""
        return Model(self.skeleton(), self.store)

    def skeleton(self) -> onnx.ModelProto:
        """Export without large weights: structure, types and small constants."""
        if self._skeleton is not None:
            copy = onnx.ModelProto()
            copy.CopyFrom(self._skeleton)
            return copy
        return serde.Exporter(self._shell, self.store).run(self.graph, self.functions)

    def interface(self) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
        """Return the declarations of inputs, without fixed initializers, and of outputs."""
        if self._skeleton is not None:
            return serde.declared_interface(self._skeleton)
        return serde.interface(self.graph)

    def proto(self) -> onnx.ModelProto:
        """Export to a complete ``ModelProto``."""
        return weights.filled(self.skeleton(), self.store)

    def to_bytes(self) -> bytes:
        """Serialise in single-file form; raises ModelError beyond protobuf's 2 GiB."""
        content = self.small_bytes(weights.LARGEST_FILE)
        if content is None:
            raise ModelError("the model is over 2 GiB; save it to a file instead")
        return content

    def stream(self) -> Iterator[memoryview]:
        """Yield the bytes of the single-file form, however many, in parts."""
        return self.store.stream(weights.pieces(self.skeleton(), self.store))

    def small_bytes(self, limit: int) -> bytes | None:
        """Serialise in single-file form; None where that takes *limit* bytes or more."""
        pieces = weights.pieces(self.skeleton(), self.store)
        return b"".join(map(wire.view, pieces)) if sum(map(len, pieces)) < limit else None

    def save(self, path: str | os.PathLike[str], external: bool | None = None) -> None:
        """Write to *path* atomically; *external* moves weights to ``NAME.data`` beside it.

        None does so only when the model would not fit in one file. Raises OutputError.
        """
        weights.write(self.skeleton(), self.store, Path(path), external)

    def lend(self, folder: Path) -> Path:
        """Write the model into *folder*, linking to weights that lie in files; return its path."""
        return weights.lend(self.skeleton(), self.store, folder)

    def decoded(self, tensor: onnx.TensorProto) -> Array:
        """Return the values of one of the model's tensors."""
        return Weight(tensor, self.store).load()

    def encoded(self, values: Array, name: str) -> onnx.TensorProto:
        """Return *values* as a tensor for this model."""
        return weights.to_tensor(values, name, self.store)

    def size(self) -> int:
        """Return the bytes that the model takes as one file."""
        return weights.size(self.skeleton(), self.store)

    def fits_one_file(self) -> bool:
        """Say whether the model is small enough for one protobuf message."""
        return self.size() < weights.LARGEST_FILE

    def disk_size(self) -> int:
        """Return the bytes of the file the model came from, external data included.

        A model that came from elsewhere counts as one file.
        """
        if self.path is None or not self.pristine:
            return self.size()
        return self.path.stat().st_size + sum(self.store.external.values())

    @property
    def ir_version(self) -> int:
        """Version of the ONNX file format."""
        return (self._shell if self._skeleton is None else self._skeleton).ir_version

    @property
    def opset(self) -> int:
        """Version of ONNX's own operator set in the main graph."""
        return self.graph.version

    def set_opset(self, version: int, ir_version: int) -> None:
        """Declare *version* of ONNX's own operator set, and at least this *ir_version*.

        Local functions follow. Initializers that old files list among the inputs stay constants.
        """
        roots = (
            (self.graph, self._shell.opset_import),
            *((f, f.proto.opset_import) for f in self.functions),
        )
        for graph, imports in roots:
            for entry in imports:
                if entry.domain in STANDARD_DOMAINS:
                    entry.version = graph.opsets[entry.domain] = version
        if self._shell.ir_version < ir_version:
            self._shell.ir_version = ir_version
            for graph in self.graphs():
                graph.input_order = [t for t in graph.input_order if not isinstance(t, Constant)]

    def import_domain(self, domain: str, version: int) -> None:
        """Declare that operators of *domain* are used, where they are and nobody said so."""
        roots = (
            (self.graph, self._shell.opset_import),
            *((function, function.proto.opset_import) for function in self.functions),
        )
        for root, imports in roots:
            used = any(node.domain == domain for graph in walk(root) for node in graph.nodes)
            if used and domain not in root.opsets:
                imports.add(domain=domain, version=version)
                root.opsets[domain] = version

    @property
    def metadata(self) -> dict[str, str]:
        """The entries of the model's metadata, which `note` changes."""
        return {entry.key: entry.value for entry in self._outside.metadata_props}

    def note(self, key: str, value: str | None) -> None:
        """Set an entry of the model's metadata; None removes it."""
        entries = self.metadata
        entries.pop(key, None)
        if value is not None:
            entries[key] = value
        del self._outside.metadata_props[:]
        for name, text in entries.items():
            self._outside.metadata_props.add(key=name, value=text)
        self.pristine = False

    def metadata_bytes(self) -> int:
        """Return what the metadata takes in the file."""
        return onnx.ModelProto(metadata_props=self._outside.metadata_props).ByteSize()

    @property
    def _outside(self) -> onnx.ModelProto:
        """What holds all but the graphs."""
        return self._shell if self._skeleton is None else self._skeleton

    @property
    def names(self) -> Names:
        """The scope that new tensor names come from."""
        if self._names is None:
            self._names = Names(self._borne_names)
        return self._names

    def _borne_names(self) -> set[str]:
        """Return the names that anything in the model bears or mentions."""
        borne: set[str] = set()
        for graph in self.graphs():
            borne.update(t.name for t in (*graph.inputs, *graph.outputs, *graph.initializers))
            borne |= graph.value_info.keys() | graph.undefined_info
            notes = graph.source.quantization_annotation if graph.source else ()
            borne.update(note.tensor_name for note in notes)
            for node in graph.nodes:
                borne.update(t.name for t in node.inputs)
                borne.update(t.name for t in node.outputs)
        return borne

    def graphs(self) -> Iterator[Graph]:
        """Yield the main graph, the function bodies and all subgraphs, outermost first."""
        for root in (self.graph, *self.functions):
            yield from walk(root)

    def graphs_without_initializers(self) -> set[Graph]:
        """Return the graphs whose new constants become nodes: in functions; all before IR 4."""
        roots = self.functions if self.ir_version >= 4 else (self.graph, *self.functions)
        return {graph for root in roots for graph in walk(root)}

    def nodes(self) -> Iterator[Node]:
        """Yield the nodes of every graph."""
        for graph in self.graphs():
            yield from (node for node in graph.nodes if not node.erased)

    def constants(self) -> Iterator[Constant]:
        """Yield every constant that is in the file, once: initializers and Constant nodes."""
        seen: set[Constant] = set()
        for graph in self.graphs():
            declared = (t for t in graph.initializers if isinstance(t, Constant))
            read = (t for n in graph.nodes if not n.erased for t in (*n.inputs, *n.outputs))
            for tensor in (*declared, *read):
                if isinstance(tensor, Constant) and tensor not in seen:
                    seen.add(tensor)
                    if tensor.inputs or serde.is_live(tensor):
                        yield tensor

    def pinned(self) -> frozenset[int]:
        """Return the ids of the tensors that must stay whoever reads them.

        These are the outputs of every graph and the parameters of quantization annotations.
        """
        return frozenset(
            id(tensor) for graph in self.graphs() for tensor in (*graph.outputs, *graph.annotated)
        )

    def sort(self) -> bool:
        """Sort every graph topologically and stably; say whether anything moved."""
        return sum(sort(root) for root in (self.graph, *self.functions)) > 0

    def compact(self) -> None:
        """Forget what passes erased, and take in what they made."""
        for root in (self.graph, *self.functions):
            adopt(root)
        for graph in list(self.graphs()):
            graph.compact()
        bound = serde.binds_initializers(self._shell)
        if bound or self.functions:
            serde.settle(self.graph, self.functions, bound)

    def check(self) -> None:
        """Raise ModelError when a tensor is read but not defined, or defined twice."""
        serde.check_definitions(self.graph, self.functions)


def fix_input_shapes(model: Model, shapes: Mapping[str, Sequence[int]]) -> None:
    """Give inputs of *model* fixed shapes; declared types that follow from them are forgotten.

    Raises InputError for unknown inputs and for shapes that contradict what is declared.
    """
    inputs = {tensor.name: tensor for tensor in model.graph.inputs}
    for name, shape in shapes.items():
        if name not in inputs:
            raise InputError(f"no input is called {name!r}; the inputs are {', '.join(inputs)}")
        declared = inputs[name].shape
        if declared is not None and not _fits(declared, shape):
            raise InputError(f"input {name!r} is declared as {list(declared)}, not {list(shape)}")
        inputs[name].shape = list(shape)
    pinned = model.pinned()
    for graph in model.graphs():
        graph.value_info = {}
        for node in graph.nodes:
            for tensor in node.outputs:
                if isinstance(tensor, Variable) and id(tensor) not in pinned:
                    tensor.source = tensor.seen = tensor.shape = tensor.dtype = None
    model.pristine = False


def _fits(declared: Sequence[int | str | None], shape: Sequence[int]) -> bool:
    return len(declared) == len(shape) and all(
        dim == size or (size > 0 and not isinstance(dim, int))
        for dim, size in zip(declared, shape, strict=True)
    )
