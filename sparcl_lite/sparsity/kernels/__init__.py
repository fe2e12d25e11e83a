"""Products with the weights that exist, and what is between them, in numba.

Numba's pool of threads starts here, once: at its start it sets the OpenMP threads of the process to all cores, which
are PyTorch's too. They are put back, for a run's bits depend on their number.
"""

import numba
import torch

_before = torch.get_num_threads()
numba.set_num_threads(numba.get_num_threads())  # starts the pool
torch.set_num_threads(_before)
