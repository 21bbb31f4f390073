"""What packing saves on every model of a folder, against zstandard, and how fast it is.

    python benchmarks/pack.py ../shared/models [--mutants 10000]

Every model is packed and unpacked, and must come back bit for bit, be at most 64 bytes larger than
it was, and no larger than by zstandard at level 19. With --mutants, packed files are damaged at
random and read; only an error of ours may come of that. Seconds are processor time.
"""

from __future__ import annotations

import argparse
import collections
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import zstandard

from onnxslim.errors import ModelError
from onnxslim.pack import pack, unpack
from onnxslim.pack.container import Packed

_SLACK, _LARGE = 64, 1 << 28


def timed(work: Callable[[], object]) -> float:
    """Return the seconds of processor time that *work* takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def by_zstd(files: Sequence[Path]) -> int:
    """Return the bytes of *files* compressed by themselves, as the zstd command writes them."""
    compressor = zstandard.ZstdCompressor(level=19, write_checksum=True)
    return sum(len(compressor.compress(file.read_bytes())) for file in files)


def measure(path: Path, folder: Path) -> tuple[int, int, int, float, float]:
    """Return bytes before, packed and by zstandard, and the seconds of packing and unpacking."""
    target = folder / "packed.onnxz"
    packing = timed(lambda: pack(path, target))
    with tempfile.TemporaryDirectory(dir=folder) as name:
        unpacking = timed(lambda: unpack(target, Path(name) / path.name))
        there = [file for file in Path(name).rglob("*") if file.is_file()]
        files = [path.parent / file.relative_to(name) for file in there]
        for made, original in zip(there, files, strict=True):
            if made.read_bytes() != original.read_bytes():
                raise SystemExit(f"{original} did not come back")
    before = sum(file.stat().st_size for file in files)
    return before, target.stat().st_size, by_zstd(files), packing, unpacking


def table(paths: Sequence[Path], folder: Path) -> bool:
    """Print a line for each of *paths*; say whether all kept what packing promises."""
    print("| model | bytes | packed | of it | zstd -19 | packed / zstd |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    totals, kept = [0.0] * 5, True
    for path in paths:
        before, after, rival, *_ = measured = measure(path, folder)
        totals = [total + value for total, value in zip(totals, measured, strict=True)]
        fine = after <= min(before + _SLACK, rival)
        kept &= fine
        name = f"{path.parent.name}/{path.name}"
        share = f"{after / before:.1%} | {rival:,} | {after / rival:.3f}"
        print(f"| {name} | {before:,} | {after:,} | {share} |" + " FAILS" * (not fine))
    whole, packed, zipped, *spent = totals
    share = f"{packed / whole:.1%} | {zipped:,.0f} | {packed / zipped:.3f}"
    print(f"| all {len(paths)} | {whole:,.0f} | {packed:,.0f} | {share} |")
    speeds = [whole / 1e6 / seconds for seconds in spent]
    print(f"\npacks {speeds[0]:.1f} MB/s, unpacks {speeds[1]:.1f} MB/s")
    return kept


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Return *data* with bits flipped, bytes overwritten, parts cut, doubled or moved."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(5, len(out) if rng.random() < 0.5 else min(64, len(out)))
        stop = at + rng.randrange(1, 64)
        match rng.randrange(5):
            case 0:
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                out[at:stop] = rng.randbytes(stop - at)
            case 2 if len(out) > 200:
                del out[at:stop]
            case 3:
                out[at:at] = out[at:stop]
            case _:
                del out[max(at, 64) :]
    return bytes(out)


def damage(paths: Sequence[Path], folder: Path, count: int, seed: int = 0) -> bool:
    """Read *count* damaged files; print what came of them, say whether only errors of ours did."""
    rng, outcomes, slowest = random.Random(seed), collections.Counter[str](), 0.0
    originals = list[tuple[bytes, bytes]]()
    for path in paths:
        pack(path, folder / "packed.onnxz")
        originals.append((path.read_bytes(), (folder / "packed.onnxz").read_bytes()))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(count):
        model, packed = rng.choice(originals)
        data = mutated(packed, rng)
        start = time.process_time()
        outcomes[_outcome(data, model)] += 1
        slowest = max(slowest, time.process_time() - start)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"\n{count} damaged files: {dict(outcomes)}, slowest {slowest:.2f} s, +{grown:.0f} MB")
    return set(outcomes) <= {"refused", "too large", "whole after all"}


def _outcome(data: bytes, model: bytes) -> str:
    """Read *data* to the end; a model that comes out must be the right one."""
    try:
        content = Packed(memoryview(data))
        if content.size > _LARGE:
            return "too large"
        found = b"".join(content.content())
    except ModelError:
        return "refused"
    except Exception as error:
        return repr(error)
    return "whole after all" if found == model else "another model"


def main() -> int:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mutants", type=int, default=0)
    options = parser.parse_args()
    paths = sorted(options.folder.rglob("*.onnx"))
    with tempfile.TemporaryDirectory() as name:
        kept = table(paths, Path(name))
        small = [path for path in paths if path.stat().st_size < 300_000]
        if options.mutants:
            kept &= damage(small, Path(name), options.mutants)
    return not kept


if __name__ == "__main__":
    sys.exit(main())
