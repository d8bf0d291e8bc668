"""Settings of every test run, made before any library that reads them is imported."""

import os
import signal

from hypothesis import settings

# Child processes inherit these, so the stages that a test runs use them too.
os.environ.update(
    DVC_NO_ANALYTICS="1",
    ITERATIVE_DO_NOT_TRACK="1",
    HF_HUB_OFFLINE="1",
    # Two thread pools on the same cores wait for each other; one thread also sums in one order.
    OMP_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
)

# Processes that a shell starts in the background inherit ignoring this signal; here it must interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A slow machine is not a failure, and a run must find what the last run found.
settings.register_profile("amalgam", deadline=None, derandomize=True)
settings.load_profile("amalgam")
