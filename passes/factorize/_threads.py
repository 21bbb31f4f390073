"""Small matrices are soonest done by one thread: others spin where another program is busy."""

from __future__ import annotations

from contextlib import AbstractContextManager

from threadpoolctl import threadpool_limits


def one_thread() -> AbstractContextManager[object]:
    """Keep NumPy's linear algebra to one thread."""
    limits: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limits
