"""Work for many processes, and for a cluster that loses one of them."""

from __future__ import annotations

import os
import signal
import time

import pytest

from onnxslim import workers
from onnxslim.errors import InputError, WorkerLost


def slowly_squared(number: int) -> tuple[int, int]:
    """Return the square and the process that made it."""
    time.sleep(0.2)
    return number**2, os.getpid()


def test_results_come_in_order() -> None:
    assert [n for n, _ in workers.each(slowly_squared, range(6), 2)] == [0, 1, 4, 9, 16, 25]


def falls_over_two(number: int) -> int:
    """Take the process along where *number* is 2."""
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_process_that_ends_stops_no_other() -> None:
    found = workers.each(falls_over_two, range(6), 2, lost=lambda number: -number)
    assert list(found) == [0, 1, -2, 3, 4, 5]


def test_a_process_that_ends_is_said() -> None:
    with pytest.raises(WorkerLost, match="2: its process ended"):
        list(workers.each(falls_over_two, range(3), 2))


def test_a_cluster_that_loses_a_worker_gives_the_same_results() -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        found = workers.each(
            slowly_squared, range(24), backend="dask", scheduler=cluster.scheduler_address
        )
        first, process = next(found)
        os.kill(process, signal.SIGKILL)
        assert [first, *(n for n, _ in found)] == [n**2 for n in range(24)]


def test_ray_gives_the_same_results() -> None:
    pytest.importorskip("ray")
    found = workers.each(slowly_squared, range(4), backend="ray")
    assert [n for n, _ in found] == [0, 1, 4, 9]


def test_a_scheduler_must_be_named() -> None:
    pytest.importorskip("distributed")
    with pytest.raises(InputError, match="--scheduler"):
        list(workers.each(slowly_squared, [1], backend="dask"))
