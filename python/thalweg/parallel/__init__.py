"""Ranks that are processes: who this process is among them, how they find one another, how they end together.

A script that was started by `thalweg launch -n 4 script.py`, mpirun, mpiexec or srun runs as it stands: a Trainer takes
part as one rank of all processes. Every rank runs the whole script with the whole data; `batch_size` is that of all.
"""

from .connect import communicator, prepare, rank, size, threads

__all__ = ["communicator", "rank", "size", "threads"]

prepare()
