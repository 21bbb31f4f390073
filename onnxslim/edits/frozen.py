"""Weights that are inputs too, as old exporters write them: they become constants."""

from __future__ import annotations

from onnxslim.ir import Model, freeze

_FREE_INITIALIZERS = 4
"""The version of the file format from which initializers need not be inputs."""


def freeze_initializers(model: Model) -> list[str]:
    """Make constants of the initializers that a caller may override.

    Files before IR version 4 have none of those, but must list every initializer among the inputs;
    they get that version, for new weights to be stored. Returns what the user should know.
    """
    notes, frozen, version = list[str](), freeze(model), model.ir_version
    if frozen:
        notes.append(f"{frozen} inputs with default values became constants")
    if version < _FREE_INITIALIZERS:
        model.set_opset(model.opset, _FREE_INITIALIZERS)
        model.pristine = False
        notes.append(f"IR version {version} became {_FREE_INITIALIZERS}")
    return notes
