"""Everything that can go wrong on purpose.

* OnnxslimError
  + InputError            what the caller gave cannot be used (exit status 2)
    - ModelError          a model file or proto cannot be read, or is not a model
    - DataError           calibration data does not fit the model
    - SpecError           a pipeline string cannot be read
    - OutputError         the result cannot be written where it should go
    - CannotTune          gradients cannot go through a model, or not be asked of it so
    - MissingPackage      an optional package is not installed; also an ImportError
  + PatternError          a pattern names an unknown operator or is malformed
  + PassError             a pass cannot run or misbehaved
    - MissingData         the pass needs calibration data and got none (exit status 2)
  + BrokenModel           a result is not valid ONNX, or not the same function any more
    - Unfused             the same function, but onnxruntime fuses less of it and would be slower
  + BudgetMissed          a search found no model inside the budget
  + WorkerLost            a process ended before it was done
  + CannotRun             onnxruntime refuses the model or the feed
  + Declined              a rewrite found its shape but not its conditions; never leaves a pass
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class OnnxslimError(Exception):
    """Base of every error raised on purpose; `exit_status` is what the command line returns."""

    exit_status: ClassVar[int] = 1


class InputError(OnnxslimError):
    """What the caller gave cannot be used."""

    exit_status = 2


class ModelError(InputError):
    """A model file or proto cannot be read, or is not a model."""


class DataError(InputError):
    """Calibration data does not fit the model."""


class SpecError(InputError):
    """A pipeline string cannot be read."""


class OutputError(InputError):
    """The result cannot be written where it should go."""


class CannotTune(InputError):
    """Gradients cannot go through a model, or not be asked of it so."""


class MissingPackage(InputError, ImportError):
    """An optional package is not installed."""


class PatternError(OnnxslimError):
    """A pattern names an unknown operator or is malformed."""


class PassError(OnnxslimError):
    """A pass cannot run or misbehaved."""


class MissingData(PassError):
    """The pass needs calibration data and got none."""

    exit_status = 2


class BrokenModel(OnnxslimError):
    """A result is not valid ONNX, or not the same function any more."""


class Unfused(BrokenModel):
    """A result is the same function, but onnxruntime fuses less of it and would be slower."""


class BudgetMissed(OnnxslimError):
    """A search found no model inside the budget; the message says what came closest."""


class WorkerLost(OnnxslimError):
    """A process ended before it was done, by a crash or for want of memory."""


class CannotRun(OnnxslimError):
    """Onnxruntime refuses the model or the feed."""


class Declined(OnnxslimError):
    """A rewrite found its shape but not its conditions; the reason goes to the report."""


def did_you_mean(name: str, known: Iterable[str], most: int = 1, otherwise: str = "") -> str:
    """Return the end of a message about an unknown *name*: those of *known* that are like it."""
    import difflib

    close = difflib.get_close_matches(name, list(known), most)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else otherwise
