"""How numbers are crunched in a process that decides."""

from threadpoolctl import threadpool_limits


def one_blas_thread() -> threadpool_limits:
    """A context in which linear algebra uses one thread, in the whole process.

    A decision's matrices are small: on more threads they take longer, not less. The limit is of the process
    and what was before comes back at the end, so enter it once, around everything, not around each decision.
    """
    return threadpool_limits(limits=1, user_api="blas")
