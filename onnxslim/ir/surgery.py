"""Surgery: rewiring that keeps every use list right and costs what it touches.

All functions work by identity. Erased nodes stay in ``graph.nodes`` until `Graph.compact`, so that
a sweep over a graph can erase as it goes.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence

from onnxslim.errors import Declined, ModelError
from onnxslim.ir.graph import Constant, Graph, Node, Tensor, Variable


def walk(graph: Graph) -> Iterator[Graph]:
    """Yield *graph* and every graph inside it, outermost first."""
    queue = [graph]
    for current in queue:
        yield current
        for node in current.nodes:
            if node._attrs and not node.erased:
                queue.extend(node.subgraphs())


def producer(tensor: Tensor) -> Node | None:
    """Return the node that computes *tensor*."""
    return tensor.inputs[0] if tensor.inputs else None


def replace_uses(old: Tensor, new: Tensor) -> None:
    """Make every node that reads *old*, in any graph, read *new*."""
    readers = list(old.outputs)
    list.clear(old.outputs)
    for reader in dict.fromkeys(readers):
        for slot, tensor in enumerate(reader.inputs):
            if tensor is old:
                list.__setitem__(reader.inputs, slot, new)
                list.append(new.outputs, reader)


def set_inputs(node: Node, tensors: Iterable[Tensor]) -> None:
    """Replace the inputs of *node*; `release` what it read before, if it is not needed."""
    unlink_inputs(node)
    for tensor in tensors:
        list.append(node.inputs, tensor)
        list.append(tensor.outputs, node)


def set_input(node: Node, slot: int, tensor: Tensor) -> None:
    """Replace one input of *node*, which may read the same tensor in another slot too."""
    set_inputs(node, [tensor if i == slot else item for i, item in enumerate(node.inputs)])


def set_output(node: Node, slot: int, tensor: Tensor) -> None:
    """Make *node* compute *tensor*, which nobody else does, in place of an output."""
    list.clear(node.outputs[slot].inputs)
    list.__setitem__(node.outputs, slot, tensor)
    list.append(tensor.inputs, node)


def unlink_inputs(node: Node) -> list[Tensor]:
    """Detach *node* from its inputs and return them."""
    tensors: list[Tensor] = list(node.inputs)
    list.clear(node.inputs)
    for tensor in dict.fromkeys(tensors):
        readers = [reader for reader in tensor.outputs if reader is not node]
        list.clear(tensor.outputs)
        list.extend(tensor.outputs, readers)
    return tensors


def substitute(old: Tensor, new: Tensor, graph: Graph, pinned: frozenset[int]) -> None:
    """Let *new* take the place of *old* everywhere; both hold the same value.

    A graph output keeps its name: then the producer of *new*, a node of the same *graph*, computes
    *old* under its own name instead. *pinned* holds the ids of all graph outputs. Raises Declined
    when the output cannot be computed otherwise.
    """
    if id(old) not in pinned:
        replace_uses(old, new)
        return
    source = producer(new)
    if source is None or isinstance(new, Constant) or id(new) in pinned:
        raise Declined("the result is a graph output, which needs a node of its own")
    if source.graph is not graph:
        raise Declined("the result is a graph output and its value comes from an outer graph")
    readers = replace_producer(old, new, source)
    assert not readers


def replace_producer(old: Tensor, new: Tensor, source: Node) -> list[Node]:
    """Make *source*, which computes *new*, compute *old* instead; return who still reads *new*."""
    for node in list(old.inputs):
        slot = next(i for i, tensor in enumerate(node.outputs) if tensor is old)
        list.__setitem__(node.outputs, slot, Variable(""))
        list.append(node.outputs[slot].inputs, node)
    list.clear(old.inputs)
    slot = next(i for i, tensor in enumerate(source.outputs) if tensor is new)
    list.__setitem__(source.outputs, slot, old)
    list.clear(new.inputs)
    list.append(old.inputs, source)
    replace_uses(new, old)
    return list(new.outputs)


def erase(nodes: Iterable[Node], pinned: frozenset[int]) -> int:
    """Erase *nodes*, and then every node that only they needed; return how many went.

    Nodes that were useless before are none of its business.
    """
    stack, count = list(nodes), 0
    while stack:
        node = stack.pop()
        if node.erased:
            continue
        node.erased = True
        count += 1
        for tensor in node.outputs:
            list.clear(tensor.inputs)
        let_go = unlink_inputs(node)
        for graph in node.subgraphs():
            let_go += _detach_subgraph(graph)
        stack += _useless(let_go, pinned)
    return count


def release(tensors: Iterable[Tensor], pinned: frozenset[int]) -> int:
    """Erase the nodes and initializers behind *tensors* that nobody needs any more."""
    return erase(_useless(tensors, pinned), pinned)


def _useless(tensors: Iterable[Tensor], pinned: frozenset[int]) -> Iterator[Node]:
    for tensor in tensors:
        source = producer(tensor)
        if source is None:
            if isinstance(tensor, Constant) and not tensor.outputs and id(tensor) not in pinned:
                tensor.dropped = True
        elif not is_used(source, pinned):
            yield source


def _detach_subgraph(graph: Graph) -> list[Tensor]:
    """Detach every node below *graph*; return what they read."""
    let_go: list[Tensor] = []
    for inner in list(walk(graph)):
        for node in inner.nodes:
            node.erased = True
            let_go += unlink_inputs(node)
    return let_go


def is_used(node: Node, pinned: frozenset[int]) -> bool:
    """Say whether anybody reads an output of *node*."""
    return any(tensor.outputs or id(tensor) in pinned for tensor in node.outputs)


def captured(graph: Graph) -> dict[Node, list[Tensor]]:
    """Map each node of *graph* with subgraphs to the tensors that those read."""
    found: dict[Node, list[Tensor]] = {}
    for node in graph.nodes:
        if not node._attrs:
            continue
        read: list[Tensor] = []
        for outer in node.subgraphs():
            for inner in walk(outer):
                read += inner.outputs
                for item in inner.nodes:
                    read += item.inputs
        if read:
            found[node] = read
    return found


def sort(graph: Graph) -> bool:
    """Sort *graph* and its subgraphs topologically and stably; say whether anything moved.

    Kahn's algorithm with a heap on the present order. Raises ModelError on a cycle.
    """
    moved = False
    for inner in list(walk(graph)):
        order = _sorted(inner)
        if order is not None:
            inner.nodes = order
            moved = True
    return moved


def _is_ordered(index: dict[Node, int], inner: dict[Node, list[Tensor]]) -> bool:
    """Say whether every node stands behind those that it, or a graph inside it, reads."""
    for node, i in index.items():
        for tensor in (*node.inputs, *inner[node]) if node in inner else node.inputs:
            for source in tensor.inputs:
                if index.get(source, -1) >= i:
                    return False
    return True


def _sorted(graph: Graph) -> list[Node] | None:
    """Return the nodes in order, or None where they are in order already."""
    nodes: Sequence[Node] = graph.nodes
    index = {node: i for i, node in enumerate(nodes)}
    inner = captured(graph)
    if _is_ordered(index, inner):
        return None
    waiting, readers = [0] * len(nodes), [list[int]() for _ in nodes]
    for node, i in index.items():
        for tensor in (*node.inputs, *inner.get(node, ())):
            for source in tensor.inputs:
                j = index.get(source)
                if j is not None:
                    readers[j].append(i)
                    waiting[i] += 1
    heap = [i for i, count in enumerate(waiting) if not count]
    order: list[Node] = []
    while heap:
        i = heapq.heappop(heap)
        order.append(nodes[i])
        for j in readers[i]:
            waiting[j] -= 1
            if not waiting[j]:
                heapq.heappush(heap, j)
    if len(order) != len(nodes):
        stuck = next(node for node, i in index.items() if waiting[i])
        raise ModelError(f"the graph has a cycle through {stuck.op} {stuck.name!r}")
    return order
