"""What every test shares."""

import os
import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a shell's background; it is inherited
    signal.signal(signal.SIGINT, signal.default_int_handler)

# before anything imports huggingface_hub, which reads it once
os.environ["HF_HUB_OFFLINE"] = "1"

# shapes and dtypes in signatures are checked at run time, here and not in use; told not to check, the hook
# would still wrap what it finds, inner functions at every call of the outer one, and be measured with it
from jaxtyping import config as checks
from jaxtyping import install_import_hook

if not checks.jaxtyping_disable:
    install_import_hook(
        [
            "qpabench.circuits",
            "qpabench.generators.controls",
            "qpabench.generators.direct",
            "qpabench.generators.generator",
            "qpabench.generators.qpa",
            "qpabench.targets",
            "qpabench.training",
        ],
        "typechecking.checked",
    )
