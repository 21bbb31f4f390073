"""Slim random models until time is up, and shrink each one that comes out different.

    python -m benchmarks.fuzz [--seconds 60] [--seed 0] [--jobs 1] [--output DIR] [--no-edits]

A model grows node by node; each node is run by onnxruntime as it is added, so that shapes and
values are known and a node that onnxruntime refuses is left out again. Most nodes come in the forms
that passes look for, the rest from the whole ONNX schema. docs/fuzzing.md says what is checked.

Each kind of failure is shrunk and written to DIR as ``.txt`` (ONNX text) and ``.onnx``; with any,
the exit status is 1. ``--seed S --seconds 0`` repeats one model.
"""
