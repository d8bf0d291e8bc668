"""Where and in what precision to compute."""

from contextlib import AbstractContextManager

import torch


def choose_device() -> torch.device:
    """Take a GPU where one is at hand."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def open_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Compute in bfloat16 where the hardware has it, which about doubles the rate; weights stay in float32."""
    if device.type == "cuda":
        return torch.autocast("cuda", torch.bfloat16, enabled=torch.cuda.is_bf16_supported())
    return torch.autocast("cpu", torch.bfloat16, enabled=torch.ops.mkldnn._is_mkldnn_bf16_supported())


def set_seed(seed: int) -> None:
    """Seed torch on all devices; on a GPU, ask for the deterministic form of every operation as well."""
    torch.manual_seed(seed)
    if torch.cuda.is_available():
        torch.use_deterministic_algorithms(True, warn_only=True)
