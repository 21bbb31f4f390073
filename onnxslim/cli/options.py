"""Options that several commands have."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_IMAGES = {
    "color": ("rgb|bgr|gray", "Channels of images in -c, in the model's order."),
    "resize": ("PIXELS|H,W", "Length of their shorter side, or both."),
    "crop": ("PIXELS|H,W", "Keep this much of the middle."),
    "scale": ("X", "Multiply bytes by this; 1/255 if not given."),
    "mean": ("X|X,X,X", "Subtract this then."),
    "std": ("X|X,X,X", "Divide by this then."),
    "layout": ("nchw|nhwc", "Order of the axes, where the input's shape does not tell."),
}


def image_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options that say how images become arrays."""
    for name, (metavar, text) in reversed(_IMAGES.items()):
        command = click.option(f"--{name}", metavar=metavar, help=text)(command)
    return command


def images_given(parameters: Mapping[str, Any], data: str | None) -> dict[str, str]:
    """Return those of `image_options` that were given. Raises UsageError where there is no data."""
    given = {name: parameters[name] for name in _IMAGES if parameters[name] is not None}
    if given and data is None:
        raise click.UsageError("how images are read goes with -c")
    return given


@contextmanager
def warnings_as_lines(quiet: bool) -> Iterator[None]:
    """Print the warnings of this package as lines without a place in the code."""

    def show(message: Warning | str, *place: object) -> None:
        if not quiet:
            click.echo(f"onnxslim: warning: {message}", err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show  # type: ignore[assignment]
        yield
