"""Run a tool in its own environment: on one file, or on file after file as requests come in.

    optimize.py TOOL INPUT OUTPUT
    optimize.py TOOL        one JSON request {"input", "output"} a line, one JSON answer a line

Each tool is called as its command line calls it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any


def _ours(source: str, target: str) -> None:
    import onnxslim

    onnxslim.run(source).save(target)


def _ours_unchecked(source: str, target: str) -> None:
    import onnxslim

    onnxslim.run(source, check="off").save(target)


def _onnxslim(source: str, target: str) -> None:
    import onnxslim  # in this environment, the other package of that name

    onnxslim.slim(source, target)


def _onnxsim(source: str, target: str) -> None:
    import onnx
    import onnxsim

    result, holds = onnxsim.simplify(source)
    onnx.save(result, target)
    if not holds:
        raise RuntimeError("its own check failed")


def _onnxoptimizer(source: str, target: str) -> None:
    import onnx
    import onnxoptimizer

    onnx.checker.check_model(source)
    onnx.save(onnxoptimizer.optimize(onnx.load(source)), target)


def _onnxscript(source: str, target: str) -> None:
    import onnxscript.optimizer
    import onnxscript.rewriter
    from onnxscript import ir

    model = onnxscript.optimizer.optimize(ir.load(source))
    model = onnxscript.rewriter.rewrite(model)
    large = _weight(model) > 2**30
    ir.save(model, target, external_data=os.path.basename(target) + ".data" if large else None)


def _weight(model: Any) -> int:
    tensors = (value.const_value for value in model.graph.initializers.values())
    return sum(int(tensor.nbytes) for tensor in tensors if tensor is not None)


RUN: dict[str, Callable[[str, str], None]] = {
    "ours": _ours,
    "ours-unchecked": _ours_unchecked,
    "OnnxSlim": _onnxslim,
    "onnxsim": _onnxsim,
    "onnxoptimizer": _onnxoptimizer,
    "onnxscript": _onnxscript,
}


def answer(name: str, request: dict[str, str]) -> dict[str, str]:
    """Optimize one file and say what went wrong, if anything did."""
    try:
        RUN[name](request["input"], request["output"])
    except (Exception, SystemExit) as error:
        lines = str(error).strip().splitlines() or [""]
        return {"error": f"{type(error).__name__}: {lines[0][:200]}"}
    return {}


def serve(handle: Callable[[Any], Any]) -> None:
    """Answer requests from standard input; what else is printed goes nowhere."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in sys.stdin:
        print(json.dumps(handle(json.loads(line))), file=answers, flush=True)


def main() -> None:
    """Run from the command line."""
    name, *paths = sys.argv[1:]
    if paths:
        RUN[name](*paths)
    else:
        serve(lambda request: answer(name, request))


if __name__ == "__main__":
    main()
