"""``onnxslim pack`` and ``onnxslim unpack``: models as files for disk and network."""

from __future__ import annotations

from pathlib import Path

import click

from onnxslim.cli.options import CONTEXT

_SOURCE = click.argument("source", type=click.Path(path_type=Path), metavar="IN")
_TARGET = click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Write it here."
)
_QUIET = click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")


@click.command("pack", context_settings=CONTEXT)
@_SOURCE
@_TARGET
@_QUIET
def pack(source: Path, output: Path, quiet: bool) -> None:
    """Pack the model IN and its external data into one small file, for disk and network."""
    from onnxslim import pack as packing

    before, after = packing.pack(source, output)
    if not quiet:
        click.echo(f"{output}: {after:,} bytes, {after / before:.1%} of {before:,}")


@click.command("unpack", context_settings=CONTEXT)
@_SOURCE
@_TARGET
@click.option("--max-bytes", type=int, metavar="N", help="Allow so many bytes, however few IN has.")
@_QUIET
def unpack(source: Path, output: Path, max_bytes: int | None, quiet: bool) -> None:
    """Restore the model that was packed into IN, bit for bit, external data beside it."""
    from onnxslim import pack as packing

    before, after = packing.unpack(source, output, max_bytes)
    if not quiet:
        click.echo(f"{output}: {after:,} bytes, unpacked from {before:,}")
