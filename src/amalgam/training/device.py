"""Where and in what precision to compute."""

from contextlib import AbstractContextManager

import torch


def choose_device() -> torch.device:
    """Take a GPU where one is at hand."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_dtype(device: torch.device) -> torch.dtype:
    """Take bfloat16 where the hardware has it, or else float32."""
    on_gpu = device.type == "cuda"
    able = torch.cuda.is_bf16_supported() if on_gpu else torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if able else torch.float32


def open_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Compute in bfloat16 where the hardware has it, at two to four times the rate; weights stay in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=choose_dtype(device) is torch.bfloat16)


def set_seed(seed: int) -> None:
    """Seed torch on all devices; on a GPU, ask for the deterministic form of every operation as well."""
    torch.manual_seed(seed)
    if torch.cuda.is_available():
        torch.use_deterministic_algorithms(True, warn_only=True)
