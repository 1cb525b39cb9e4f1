"""What the process imports from which workers are forked, so that none of them has to.

Importing numba and loading the compiled loops takes a second, compiling them (once an installation) ten:
done here, neither falls into a cell's first step.
"""

from contextlib import suppress

from qpabench.circuits import fast
from qpabench.running import worker as worker
from qpabench.training import exponentials

with suppress(Exception):  # without its loops a worker runs, or says itself what is wrong
    fast.warm_up()
    exponentials.warm_up()
