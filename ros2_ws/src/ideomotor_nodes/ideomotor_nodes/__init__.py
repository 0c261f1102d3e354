"""The ROS 2 nodes: one thin node a file."""

import os

# Before numpy is loaded: the matrices of the nodes are small, and a second thread of BLAS only spins, on a
# core that another node needs.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
