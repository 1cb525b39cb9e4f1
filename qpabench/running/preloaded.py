"""What the process imports from which workers are forked, so that none of them has to.

Importing numba and loading the compiled loops takes a second, compiling them (once an installation) ten:
done here, neither falls into a cell's first step. Nothing here may start a thread of torch's: a forked
process has none of them, and would wait for them for ever.
"""

from contextlib import suppress

import torch

from qpabench.circuits import fast
from qpabench.running import worker as worker
from qpabench.training import exponentials

torch.set_num_threads(1)  # each worker sets its own number
with suppress(Exception):  # without its loops a worker runs, or says itself what is wrong
    fast.warm_up()
    exponentials.warm_up()
