"""Work for many processes, here or on a cluster, by joblib's backends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

from onnxslim.errors import InputError, MissingPackage

Backend = Literal["local", "dask", "ray"]
_T = TypeVar("_T")
_R = TypeVar("_R")


def each(
    function: Callable[[_T], _R],
    items: Sequence[_T],
    jobs: int = 1,
    backend: Backend = "local",
    scheduler: str | None = None,
) -> Iterator[_R]:
    """Yield what *function* makes of each of *items*, in order, as soon as it is there.

    With one job, and on this machine, no process is started. A cluster's *scheduler* is an address
    such as ``tcp://host:8786``; ray without one starts a cluster on this machine, and tells results
    when all of them are there. What goes to other processes must be picklable. Raises
    MissingPackage, and InputError where the cluster cannot be reached.
    """
    if backend == "local" and jobs == 1:
        yield from map(function, items)
        return
    import joblib  # comes with scikit-learn, and takes time to import

    with _cluster(backend, scheduler):
        told = "list" if backend == "ray" else "generator"  # joblib's backend of ray has no other
        parallel = joblib.Parallel(n_jobs=jobs if backend == "local" else -1, return_as=told)
        yield from parallel(joblib.delayed(function)(item) for item in items)


@contextmanager
def _cluster(backend: Backend, scheduler: str | None) -> Iterator[None]:
    """Let joblib work on a cluster for a while."""
    if backend == "local":
        yield
        return
    import joblib

    if backend == "ray":
        _start_ray(scheduler)
        with joblib.parallel_config("ray"):
            yield
    else:
        with _dask(scheduler) as client, joblib.parallel_config("dask", client=client):
            yield


def _start_ray(address: str | None) -> None:
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise MissingPackage("ray is not installed: pip install 'onnxslim[ray]'") from error
    try:
        ray.init(address, ignore_reinit_error=True, logging_level="warning", log_to_driver=False)
    except (ConnectionError, ValueError) as error:
        raise InputError(f"the cluster {address} does not answer: {error}") from error
    register_ray()


def _dask(scheduler: str | None) -> Any:
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingPackage("dask is not installed: pip install 'onnxslim[dask]'") from error
    if scheduler is None:
        raise InputError("name the scheduler of the cluster: --scheduler tcp://HOST:8786")
    try:
        return Client(scheduler, timeout=30)
    except (OSError, TimeoutError) as error:
        raise InputError(f"the scheduler {scheduler} does not answer: {error}") from error
