"""The command line of the fuzzer."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.fuzz.driver import Options, watch


def main() -> int:
    """Fuzz; return 1 where there are finds."""
    parser = argparse.ArgumentParser("python -m benchmarks.fuzz")
    parser.add_argument("--seconds", type=float, default=60.0, help="0 tries one model")
    parser.add_argument("--seed", type=int, default=0, help="of the first model")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--output", type=Path, default=Path("fuzz"), help="folder for finds")
    parser.add_argument(
        "--no-edits", action="store_false", dest="edits", help="no input_shapes, outputs and such"
    )
    return 1 if watch(Options(**vars(parser.parse_args()))) else 0


if __name__ == "__main__":
    sys.exit(main())
