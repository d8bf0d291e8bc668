"""What every test runs under; set before any library that reads it is imported."""

import os
import signal

from hypothesis import settings

# Child processes inherit these, so stages that a test runs keep to them too.
os.environ.update(
    DVC_NO_ANALYTICS="1",
    ITERATIVE_DO_NOT_TRACK="1",
    HF_HUB_OFFLINE="1",
    # Two thread pools on the same cores wait for each other; one thread also sums in one order.
    OMP_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
)

# What a shell starts in the background ignores this signal and hands that on; here it is to interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A slow machine is no failure, and a run must find what the last one found.
settings.register_profile("amalgam", deadline=None, derandomize=True)
settings.load_profile("amalgam")
