"""What every test shares."""

import os

# before anything imports huggingface_hub, which reads it once
os.environ["HF_HUB_OFFLINE"] = "1"
