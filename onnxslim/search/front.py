"""The candidates that nothing beats in everything, and files that show them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from onnxslim.ir import Model
from onnxslim.report.charts import points
from onnxslim.search.judge import Candidate

_STYLE = (
    "svg{font:13px sans-serif;background:#fff}circle{fill:#2a6fdb}line{stroke:#888}text{fill:#333}"
)


def front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates that none is as small, as good and as fast as; the smallest first."""
    made = [one for one in candidates if one.failed is None]
    kept = [one for one in made if not any(_beats(other, one) for other in made)]
    return sorted(kept, key=lambda one: (one.size, one.drop, one.spec))


def _beats(one: Candidate, other: Candidate) -> bool:
    pairs = list(zip(_figures(one), _figures(other), strict=True))
    if all(a == b for a, b in pairs):
        return one.spec < other.spec
    return all(a <= b for a, b in pairs)


def _figures(candidate: Candidate) -> tuple[float, float, float]:
    return candidate.size, candidate.drop, candidate.latency or 0.0


def write_front(folder: Path, candidates: Sequence[Candidate], metric: str) -> None:
    """Write the models of a front, a table (front.json) and a plot (front.svg) to *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, candidate in enumerate(candidates):
        name = f"{number:02d}.onnx"
        Model.load(candidate.path).save(folder / name)
        rows.append({"file": name, **{k: v for k, v in asdict(candidate).items() if k != "path"}})
    text = json.dumps({"metric": metric, "models": rows}, indent=1)
    (folder / "front.json").write_text(text + "\n", encoding="utf-8")
    drawn = points([(c.method, c.size, c.drop) for c in candidates], "bytes", f"drop of {metric}")
    styled = drawn.replace(">", f' xmlns="http://www.w3.org/2000/svg"><style>{_STYLE}</style>', 1)
    (folder / "front.svg").write_text(styled, encoding="utf-8")
