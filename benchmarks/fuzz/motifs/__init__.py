"""What random models are made of; importing this offers all of it to the grower."""

from benchmarks.fuzz.motifs import (
    arithmetic,
    bodies,
    images,
    indexing,
    layers,
    movement,
    numeric,
    schema,
    sequences,
    sizes,
    written_out,
)

__all__ = [
    "arithmetic",
    "bodies",
    "images",
    "indexing",
    "layers",
    "movement",
    "numeric",
    "schema",
    "sequences",
    "sizes",
    "written_out",
]
