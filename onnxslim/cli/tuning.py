"""The command ``onnxslim tune``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from onnxslim.cli.options import CONTEXT, image_options, warnings_as_lines

if TYPE_CHECKING:
    from onnxslim.tune import Epoch, Result

_PATH = click.Path(path_type=Path)


@click.command("tune", context_settings=CONTEXT)
@click.argument("model", type=_PATH, metavar="IN")
@click.option("-o", "--output", type=_PATH, required=True, help="Write the tuned model here.")
@click.option("--original", type=_PATH, help="The model to tune toward.")
@click.option(
    "-c",
    "--data",
    required=True,
    metavar="SOURCE",
    help="Samples: files or folders, as for onnxslim -c.",
)
@image_options
@click.option("--epochs", type=int, default=5, show_default=True)
@click.option("--batch", type=int, default=64, show_default=True, help="Samples for one step.")
@click.option(
    "--lr", type=float, default=0.01, show_default=True,
    help="Largest learning rate, relative to the size of what is tuned.",
)  # fmt: skip
@click.option(
    "--schedule", type=click.Choice(["constant", "cosine"]), default="cosine", show_default=True
)
@click.option(
    "--warmup", type=float, default=0.0, metavar="SHARE", help="Share of steps in which it rises."
)
@click.option(
    "--loss",
    type=click.Choice(["auto", "kl", "mse"]),
    default="auto",
    show_default=True,
    help="kl is for logits and probabilities of classes, mse for all else.",
)
@click.option("--axis", type=int, help="Axis of the classes; 1 unless a Softmax says otherwise.")
@click.option("--temperature", type=float, default=1.0, help="Divides the logits for kl.")
@click.option(
    "--labels",
    type=float,
    is_flag=False,
    flag_value=0.5,
    default=0.0,
    metavar="[WEIGHT]",
    help="Learn the labels in the data too; weight 0.5 if not given, 1 is labels alone.",
)
@click.option("--features", multiple=True, metavar="NAME", help="Compare this tensor too.")
@click.option(
    "--sparsity", type=float, default=0.0, metavar="SHARE",
    help="Share of the weights of layers that become zeros on the way.",
)  # fmt: skip
@click.option(
    "--l1-gamma", type=float, default=0.0, metavar="WEIGHT",
    help="Draw batch-norm scales to zero, where they stay once they change their sign.",
)  # fmt: skip
@click.option(
    "--shift", type=int, default=0, metavar="PIXELS",
    help="Move images at random by up to so many pixels while learning.",
)  # fmt: skip
@click.option("--mirror", is_flag=True, help="Swap left and right of images at random.")
@click.option(
    "--rounding",
    type=click.Choice(["nearest", "stochastic"]),
    default="nearest",
    show_default=True,
    help="How the graph rounds while tuning.",
)
@click.option("--freeze", multiple=True, metavar="NAME", help="Leave such initializers: head.*")
@click.option("--held-out", type=float, default=0.1, metavar="SHARE", help="Samples that judge.")
@click.option("--patience", type=int, default=0, help="Stop after epochs that bring nothing.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--checkpoint", type=_PATH, help="Keep the state of the run here.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint.")
@click.option("--save-importance", type=_PATH, metavar="FILE.npz", help="Adam's second moments.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def tune(
    model: Path,
    output: Path,
    original: Path | None,
    data: str,
    checkpoint: Path | None,
    resume: bool,
    save_importance: Path | None,
    quiet: bool,
    **others: object,
) -> int:
    """Tune the float initializers of IN so that it computes what the original does.

    No labels are needed. The result has the same graph and the same size; the best of all epochs is
    kept, judged on samples that are held out. Takes PyTorch: pip install 'onnxslim[tune]'.
    """
    from onnxslim import api
    from onnxslim.tune import Options, Tuner

    for path in filter(None, (output, checkpoint, save_importance)):
        api.must_be_writable(path)
    images, chosen = _split(others, list(Options.__dataclass_fields__))
    options = Options(**chosen)  # type: ignore[arg-type]
    with warnings_as_lines(quiet):
        tuner = Tuner(model, original, data, options, images=images)
        progress = _silent if quiet else _lines(options.epochs, tuner.comparison.metric_name)
        result = tuner.run(checkpoint, resume, progress)
        result.save(output)
        if save_importance is not None:
            result.save_importance(save_importance)
    if not quiet:
        _print(result)
    return 0


def _split(
    others: dict[str, object], names: list[str]
) -> tuple[dict[str, object], dict[str, object]]:
    """Return what says how images are read, and the options of the tuner."""
    images = {k: v for k, v in others.items() if k not in names and v is not None}
    return images, {k: v for k, v in others.items() if k in names}


def _silent(epoch: Epoch) -> None:
    """Say nothing."""


def _lines(epochs: int, metric: str) -> Callable[[Epoch], None]:
    """Return what prints a line an epoch."""

    def show(epoch: Epoch) -> None:
        click.echo(
            f"epoch {epoch.number}/{epochs}: loss {epoch.loss:.4g}, held out "
            f"{epoch.held_out.loss:.4g}, {metric} {_number(metric, epoch.held_out.metric)}, "
            f"{epoch.seconds:.1f} s",
            err=True,
        )

    return show


def _number(metric: str, value: float) -> str:
    return f"{value:.3g}" if metric == "relative error" else f"{value:.2%}"


def _print(result: Result) -> None:
    before, after = result.before, result.after
    click.echo(f"tuned {result.tuned:,} numbers in {len(result.history)} epochs")
    click.echo(
        f"held out: loss {before.loss:.4g} -> {after.loss:.4g}, {result.metric} "
        f"{_number(result.metric, before.metric)} -> {_number(result.metric, after.metric)}"
    )
    for note in result.notes:
        click.echo(f"onnxslim: note: {note}", err=True)
