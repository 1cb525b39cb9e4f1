"""A plugin whose generators misbehave in every way a cell can; its module is written into a site folder."""

PLUGIN = """
import os
from pathlib import Path
from typing import Literal

import qpabench
from qpabench.generators.options import DirectOptions


class TroubleOptions(DirectOptions):
    how: Literal[
        "raises", "exits", "leaves", "dies", "aborts", "hangs", "eats", "starves", "is-nan", "is-short",
        "shouts", "waits", "dies-midway", "is-narrow", "meddles",
    ]


@qpabench.hookimpl
def qpabench_generators():
    yield qpabench.GeneratorEntry(
        name="trouble", summary="misbehaves", load="trouble_plugin:Trouble", options=TroubleOptions
    )


@qpabench.hookimpl
def qpabench_cell_finished(record):
    if "QPABENCH_TEST_EVENTS" in os.environ:
        with Path(os.environ["QPABENCH_TEST_EVENTS"]).open("a") as file:
            file.write(f"{record['status']}\\n")
    if record["status"] == "timeout":
        raise RuntimeError("a tracker\\nthat raises")


def Trouble(options, context):
    import signal
    import sys
    import time

    import random

    import numpy as np
    import torch

    from qpabench.generators.direct import DirectGenerator

    class Made(DirectGenerator):
        passes = 0

        def generate(self):
            tensors = super().generate()
            how = options.how
            if how == "raises":
                raise ValueError("no luck\\nat all \\x1b[31m")
            if how == "exits":
                sys.exit(4)
            if how == "leaves":
                os._exit(5)
            if how == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "aborts":
                os.kill(os.getpid(), signal.SIGSEGV)
            if how == "hangs":
                time.sleep(600)
            if how == "eats":
                kept = []
                while len(kept) < 100:
                    kept.append(bytearray(os.urandom(1 << 20) * 64))
                    time.sleep(0.05)
            if how == "starves":
                raise MemoryError("none left")
            if how == "is-nan":
                tensors = {name: tensor * float("nan") for name, tensor in tensors.items()}
            if how == "is-short":
                tensors.popitem()
            if how == "is-narrow":
                tensors = {name: tensor[:1] for name, tensor in tensors.items()}
            if how == "shouts":
                print("loud " * 100000, flush=True)
            if how == "meddles":
                import rude_plugin

                rude_plugin.meddle()
            if how == "waits" and "QPABENCH_TEST_WAIT" in os.environ:
                Path(os.environ["QPABENCH_TEST_WAIT"]).write_text(str(os.getpid()))
                time.sleep(600)
            if how == "dies-midway":
                self.passes += 1
                if self.passes == 6 and "QPABENCH_TEST_DEATH" in os.environ:
                    os.kill(os.getpid(), signal.SIGKILL)
                drawn = 0.1 * (random.random() + np.random.rand() + float(torch.rand(())))
                tensors = {name: tensor + drawn for name, tensor in tensors.items()}
            return tensors

    return Made(options, context)
"""

#: changes, when it is imported and again when asked to, what a process shares
RUDE = """
import os
import random
import sys
import warnings

import numpy as np
import torch


def meddle():
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    np.seterr(all="raise")
    os.environ["QPABENCH_CACHE"] = "/nowhere/at/all"
    os.environ["QPABENCH_KEPT_LOGITS_BYTES"] = "none"
    os.chdir("/")
    warnings.simplefilter("error")
    sys.stdout = sys.stderr = None


meddle()
"""
