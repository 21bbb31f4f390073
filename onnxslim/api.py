"""One call: a model in, a smaller one out, with a report."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from onnxslim import cost, dropin, edits, pack, shapes, versions
from onnxslim.base import Effect, Pass
from onnxslim.data import Calibration, Feed, InputSpec, generate, input_specs, requested
from onnxslim.edits import convert_floats, cut
from onnxslim.errors import BrokenModel, CannotRun, InputError, OutputError, PassError
from onnxslim.importance import Importance, read_importance
from onnxslim.ir import Model, fix_input_shapes, replace_file
from onnxslim.pipeline import Check, Pipeline, Progress, Report, _original, silent
from onnxslim.provenance import sign
from onnxslim.registry import parse
from onnxslim.runtime import Session, lent, limits
from onnxslim.validate import Reference, bounded

Source = str | os.PathLike[str] | onnx.ModelProto | Model
"""A path, a ModelProto (left untouched), or a Model (left untouched)."""
Data = (
    str
    | os.PathLike[str]
    | Calibration
    | Iterable[Any]
    | Callable[[], Iterable[Any]]
    | Sequence[str]
)
"""A file or folder, ``"module:function"``, ``"random:32"``, feeds, a function that returns feeds
(dicts of arrays by input name, arrays for a single input), or texts such as ``"x:1,3,224,224"`` and
``"x:values.npy"``; docs/data.md."""
Shapes = Mapping[str, Sequence[int]] | Sequence[str]
"""Shapes of inputs: by name, or as texts such as ``"x:1,3,224,224"``."""


@dataclass(frozen=True)
class Outcome:
    """A slimmed model and what was done to it."""

    model: Model
    report: Report

    def save(self, path: str | os.PathLike[str], external_data: bool = False) -> None:
        """Write the model to *path* atomically; *external_data* puts weights beside it.

        A model that nothing changed is copied byte by byte, and one whose name ends in ``.onnxz``
        is packed. Raises OutputError.
        """
        save(self.model, path, external_data)


def save(model: Model, path: str | os.PathLike[str], external_data: bool = False) -> None:
    """Write *model* as `Outcome.save` does. Raises OutputError."""
    if Path(path).suffix == pack.SUFFIX:
        pack.save(model, path)
        return
    verbatim = model.pristine and not model.store.external and not external_data
    if verbatim and model.path is not None:
        replace_file(Path(path), model.path)
    else:
        model.save(path, external=True if external_data else None)


def run(
    model: Source,
    passes: str | Sequence[Pass] = "lossless",
    *,
    data: Data | None = None,
    images: Mapping[str, Any] | None = None,
    input_shapes: Shapes | None = None,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    dtype: str | None = None,
    keep_io_types: bool = False,
    target_opset: int | None = None,
    contrib: bool = False,
    skip: Iterable[str] = (),
    size_threshold: int | None = None,
    check: Check = "end",
    max_error: float | None = None,
    min_sqnr: float | None = None,
    importance: Importance | None = None,
    freeze_initializers: bool = False,
    provenance: bool = True,
    seed: int = 0,
    progress: Progress = silent,
) -> Outcome:
    """Rewrite *model* by *passes* but those in *skip* and return the result with its report.

    *inputs*, *outputs*, *dtype* and *input_shapes* change the model before it is rewritten, and
    *size_threshold* limits what constant folding computes, as in `slim`. The result is compared
    with the model that was changed so; how far *dtype* moves the original is a warning of its own.
    *target_opset* converts the model first, and the result is compared with what it was before;
    *contrib* adds the recipe of that name, whose operators only onnxruntime knows.
    Lossy passes may move outputs by *max_error*, relative to their scale, and down to *min_sqnr* dB
    at the worst output of floats; 0.1 where neither is given.
    *importance*, a file or arrays by initializer, tells ``prune`` how important weights are.
    *freeze_initializers* makes constants of inputs that have default values (docs/edits.md).
    *provenance* notes in the metadata of a model that was changed what was done (docs/recipes.md).
    *images* says how images in *data* become arrays: ``{"mean": 0.5, "std": 0.5}`` (docs/data.md).
    Raises InputError (a ModelError, DataError or SpecError) for input that cannot be used, and
    BrokenModel when no result could be found that computes the same.
    """
    steps = _steps(passes, tuple(skip), size_threshold, contrib)
    original, notes = _edited(model, inputs, outputs, input_shapes, freeze_initializers)
    if target_opset is not None:
        _must_convert(original, target_opset)
        steps = (*parse(f"convert-opset{{target={target_opset}}}"), *steps)
    loaded = original
    if dtype:
        data = _repeatable(data)
        loaded, said = _computing_in(dtype, original, keep_io_types)
        notes += said
        if loaded is not original and check != "off":
            feeds = None if data is None else calibration(data, original, images, seed)
            notes.append(f"{dtype}: {_moved(original, dtype, feeds, seed)}")
    feeds = None if data is None else calibration(data, loaded, images, seed)
    known, said = (None, []) if importance is None else read_importance(importance, loaded)
    pipeline = Pipeline(
        steps, check=check, budget=max_error, min_sqnr=min_sqnr, seed=seed, importance=known
    )
    result, report = pipeline(loaded, feeds, progress)
    _must_be_in(target_opset, result, report)
    if loaded is not original:
        before = cost.measure(original, shapes.infer(original), original.disk_size())
        report = replace(report, before=before)
    if provenance and result is not loaded and all(step.name != "strip" for step in steps):
        report = sign(result, report, steps)
    return Outcome(result, replace(report, warnings=(*notes, *said, *report.warnings)))


def _steps(
    passes: str | Sequence[Pass], skip: Sequence[str], size_threshold: int | None, contrib: bool
) -> tuple[Pass, ...]:
    """Return the passes to run, without those that a caller does not want."""
    steps = parse(passes) if isinstance(passes, str) else tuple(passes)
    steps = dropin.limited(dropin.without(steps, skip), size_threshold)
    return (*steps, *dropin.without(parse("contrib"), skip)) if contrib else steps


def _computing_in(dtype: str, model: Model, keep_io_types: bool) -> tuple[Model, list[str]]:
    """Return a copy of *model* that computes in *dtype*, or it where it does so; with notes."""
    converted = model.copy()
    changed, notes = convert_floats(converted, dtype, keep_io_types)  # type: ignore[arg-type]
    return (converted if changed else model), list(notes)


def _must_be_in(opset: int | None, result: Model, report: Report) -> None:
    """Raise BrokenModel where the conversion to *opset* was taken back."""
    if opset is not None and result.opset != opset:
        reason = str(report.steps[0].skipped).removeprefix("left out on this model: ")
        raise BrokenModel(f"the model could not be kept in opset {opset}: {reason}")


def slim(
    model: Source,
    output: str | os.PathLike[str] | None = None,
    passes: str | Sequence[Pass] = "lossless",
    *,
    output_model: str | os.PathLike[str] | None = None,
    data: Data | None = None,
    input_shapes: Shapes | None = None,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    dtype: str | None = None,
    keep_io_types: bool = False,
    target_opset: int | None = None,
    contrib: bool = False,
    skip_optimizations: Sequence[str] | None = None,
    skip_fusion_patterns: Sequence[str] | None = None,
    size_threshold: int | None = None,
    check: Check = "end",
    max_error: float | None = None,
    min_sqnr: float | None = None,
    importance: Importance | None = None,
    freeze_initializers: bool = False,
    model_check: bool | None = None,
    model_check_inputs: Sequence[str] | None = None,
    provenance: bool = True,
    seed: int = 0,
    external_data: bool = False,
    save_as_external_data: bool = False,
    inspect: bool = False,
    dump_to_disk: bool = False,
    no_shape_infer: bool = False,
    verbose: bool = False,
) -> onnx.ModelProto:
    """Return *model* made smaller, validated against the original; write it to *output* if given.

    *passes* is a recipe or a list such as ``"fuse-conv-bn,drop-dead"``; *data* are inputs to
    compare on (a file, a folder or feeds, docs/data.md); *input_shapes* fixes
    dimensions, e.g. ``{"image": (1, 3, 224, 224)}``; *check* is ``"each"``, ``"end"`` or ``"off"``;
    *max_error* and *min_sqnr* say how far lossy passes may go, as in `run`;
    *freeze_initializers* makes constants of inputs with default values;
    *target_opset* converts the model to that version of ONNX's operators first, *contrib* allows
    operators of onnxruntime's own (docs/opsets.md); *provenance* notes in the model's metadata what
    was done to it (docs/recipes.md).
    A model over 2 GiB comes back with its weights left in the external data of *output*.

    The other keywords are those of the OnnxSlim package (docs/migrating.md). *output_model*,
    *model_check_inputs* and *save_as_external_data* are *output*, *data* and *external_data*; an
    explicit *model_check* switches the comparison on or off. *skip_optimizations* and
    *skip_fusion_patterns* name passes to leave out, in our words or in theirs; constant folding
    makes no value of more than *size_threshold* bytes. *inspect* prints what the model was made of
    and is made of now, *dump_to_disk* writes its nodes to a CSV file, *verbose* logs what is done.
    """
    target = _either("output", output, "output_model", output_model)
    if target is not None:
        must_be_writable(Path(target))
    if no_shape_infer:
        dropin.warn(dropin.SHAPES_STAY)
    if verbose:
        dropin.speak()
    if inspect or dump_to_disk:
        from onnxslim import utils  # prints tables, which takes time to import

        before = utils.summarize_model(model)
    outcome = run(
        model,
        passes,
        data=_either("data", data, "model_check_inputs", model_check_inputs),
        input_shapes=input_shapes,
        inputs=inputs,
        outputs=outputs,
        dtype=dtype,
        keep_io_types=keep_io_types,
        target_opset=target_opset,
        contrib=contrib,
        skip=(*(skip_optimizations or ()), *(skip_fusion_patterns or ())),
        size_threshold=size_threshold,
        check=_check(check, model_check),
        max_error=max_error,
        min_sqnr=min_sqnr,
        importance=importance,
        freeze_initializers=freeze_initializers,
        provenance=provenance,
        seed=seed,
    )
    if dump_to_disk:
        utils.dump_model_info_to_disk(before)
    if inspect:
        after = utils.summarize_model(outcome.model, "slimmed")
        utils.print_model_info_as_table([before, after], outcome.report.seconds)
    if target is not None:
        outcome.save(target, external_data or save_as_external_data)
    if outcome.model.fits_one_file():
        return outcome.model.proto()
    if target is None:
        raise InputError("the model is over 2 GiB: give an output path to write it to")
    return onnx.load(os.fspath(target), load_external_data=False)


def _either(name: str, value: Any, other: str, theirs: Any) -> Any:
    """Return the one of two arguments that is given."""
    if value is not None and theirs is not None:
        raise InputError(f"{name} and {other} are the same; give one")
    return theirs if value is None else value


def _check(check: Check, model_check: bool | None) -> Check:
    if model_check is None:
        return check
    if not model_check:
        return "off"
    return "end" if check == "off" else check


def _edited(
    model: Source,
    inputs: Sequence[str] | None,
    outputs: Sequence[str] | None,
    input_shapes: Shapes | None,
    freeze: bool,
) -> tuple[Model, list[str]]:
    """Load *model* and change what the caller wants changed before anything is compared."""
    loaded = as_model(model)
    if not (inputs or outputs or input_shapes or freeze):
        return loaded, []
    loaded = loaded.copy() if isinstance(model, Model) else loaded
    notes = edits.freeze_initializers(loaded) if freeze else []
    notes += cut(loaded, dropin.ends(inputs), dropin.ends(outputs))
    if input_shapes:
        fix_input_shapes(loaded, dropin.shapes(input_shapes))
    loaded.pristine = False
    return loaded, notes


def _must_convert(model: Model, target: int) -> None:
    """Raise InputError where *model* cannot be converted to opset *target*."""
    newest_format, newest = limits()
    newest = min(newest, onnx.defs.onnx_opset_version())
    if target > newest or versions.file_format(target) > newest_format:
        raise InputError(f"opset {target} is too new: the installed onnxruntime loads {newest}")
    try:
        versions.convert(model.copy(), target)
    except PassError as error:
        raise InputError(str(error)) from error


def _moved(original: Model, dtype: str, feeds: Calibration | None, seed: int) -> str:
    """Say how far *original* moves when it computes in *dtype*."""
    converted = original.copy()
    try:
        convert_floats(converted, dtype, keep_io_types=True)  # type: ignore[arg-type]
        with _original(original) as before, lent(converted) as after:
            reference = Reference(before, original, feeds, seed)
            if reference.reason is not None:
                return f"not compared with the original: {reference.reason}"
            found = reference.compare(after, Effect.ROUNDING)
    except (BrokenModel, InputError) as error:
        return f"not compared with the original: {error}"
    if math.isinf(found.relative):
        return f"output {found.output!r} is another one (integers, texts, infinities or NaN)"
    return f"largest error {found.relative:.1e} of scale, {reference.count} feeds"


def _repeatable(data: Any) -> Any:
    """Return *data* in a form that can be read twice."""
    kept = data is None or isinstance(data, (str, os.PathLike, Calibration, list, tuple))
    return data if kept or callable(data) else list(data)


def as_model(model: Source) -> Model:
    """Load a path, convert a proto; a Model is returned as it is. Raises ModelError, InputError."""
    if isinstance(model, Model):
        return model
    if isinstance(model, onnx.ModelProto):
        return Model.from_proto(model, lazy=True)
    if not isinstance(model, (str, os.PathLike)):
        raise InputError("give one model: a path, a ModelProto or a Model")
    return pack.load(model, lazy=True)


def calibration(
    data: Data, model: Model, images: Mapping[str, Any] | None = None, seed: int = 0
) -> Calibration:
    """Return *data* as feeds that fit *model*. Raises DataError, InputError."""
    if isinstance(data, Calibration):
        return data
    specs = input_specs(model.skeleton())
    if isinstance(data, (str, os.PathLike)):
        if isinstance(data, str) and requested(data) is not None:
            specs = _runnable(specs, model, seed)
        return Calibration.load(data, specs, images, seed)
    if images:
        raise InputError("options of images go with a folder of images")
    if isinstance(data, (list, tuple)) and data and all(isinstance(text, str) for text in data):
        return dropin.feeds(data, specs, seed)
    return Calibration.of(data, specs)


def _runnable(specs: Sequence[InputSpec], model: Model, seed: int) -> list[InputSpec]:
    """Return *specs* with sizes on which the model runs and integers that index in range."""
    within = bounded(specs, model)
    try:
        with _original(model) as source:
            session = Session(source, optimize=False)
            feed = next(feed for feed in generate(within, seed) if _runs(session, feed))
    except (CannotRun, StopIteration):
        return within
    return [
        replace(spec, shape=feed[spec.name].shape) if spec.kind == "tensor" else spec
        for spec in within
    ]


def _runs(session: Session, feed: Feed) -> bool:
    try:
        session.run(feed)
    except CannotRun:
        return False
    return True


def must_be_writable(path: Path) -> None:
    """Fail before the work rather than after it."""
    if path.suffix == pack.SUFFIX:
        pack.require()
    folder = path.parent
    if path.is_dir():
        raise OutputError(f"{path} is a directory; name the output file")
    if not folder.is_dir():
        raise OutputError(f"{folder} does not exist; make the folder first")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{folder} is not writable; choose another output")
