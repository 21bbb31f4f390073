"""Work for many processes, here or on a cluster, by joblib's backends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

from onnxslim.errors import InputError, MissingPackage, WorkerLost

Backend = Literal["local", "dask", "ray"]
LOST = "its process ended before it was done: onnxruntime crashed, or memory ran out"
_T = TypeVar("_T")
_R = TypeVar("_R")


def each(
    function: Callable[[_T], _R],
    items: Sequence[_T],
    jobs: int = 1,
    backend: Backend = "local",
    scheduler: str | None = None,
    lost: Callable[[_T], _R] | None = None,
) -> Iterator[_R]:
    """Yield what *function* makes of each of *items*, in order, as soon as it is there.

    With one job, and on this machine, no process is started. A cluster's *scheduler* is an address
    such as ``tcp://host:8786``; ray without one starts a cluster on this machine, and tells results
    when all of them are there. What goes to other processes must be picklable.

    An item whose process ends on this machine (by a crash of onnxruntime, for want of memory) is
    tried once more, alone; where that ends too, *lost* says what became of it. Raises WorkerLost
    where there is no *lost*, MissingPackage, and InputError where the cluster cannot be reached.
    """
    if backend == "local" and jobs == 1:
        yield from map(function, items)
    elif backend == "local":
        yield from _here(function, items, jobs, lost)
    else:
        with _cluster(backend, scheduler):
            # joblib's backend of ray knows no generators
            yield from _parallel(function, items, -1, "list" if backend == "ray" else "generator")


def _parallel(
    function: Callable[[_T], _R], items: Iterable[_T], jobs: int, told: str = "generator"
) -> Iterable[_R]:
    import joblib  # comes with scikit-learn, and takes time to import

    made: Iterable[_R] = joblib.Parallel(n_jobs=jobs, return_as=told)(
        joblib.delayed(function)(item) for item in items
    )
    return made


def _here(
    function: Callable[[_T], _R],
    items: Sequence[_T],
    jobs: int,
    lost: Callable[[_T], _R] | None,
) -> Iterator[_R]:
    """Yield results of processes on this machine, which may end before they are done."""
    done = 0
    while done < len(items):
        try:
            for made in _parallel(function, items[done:], jobs):
                done += 1
                yield made
        except BrokenProcessPool:
            yield _alone(function, items[done], lost)
            done += 1


def _alone(function: Callable[[_T], _R], item: _T, lost: Callable[[_T], _R] | None) -> _R:
    """Return what *function* makes of *item* in a process that does nothing else."""
    try:
        (made,) = _parallel(function, [item], 2)  # one job would be this process
    except BrokenProcessPool as error:
        if lost is None:
            raise WorkerLost(f"{item}: {LOST}") from error
        return lost(item)
    return made


@contextmanager
def _cluster(backend: Backend, scheduler: str | None) -> Iterator[None]:
    """Let joblib work on a cluster for a while."""
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
