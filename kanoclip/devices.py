"""Choose the device to compute on."""

import re

from kanoclip.gpus import take_gpu
from kanoclip.naming import printable
from kanoclip.types import InputError


def choose_device(name: str, threads: int | None) -> str:
    """Set the number of threads and choose the device.

    TF32 is switched off: torch would otherwise compute fp32 convolutions with a mantissa of 10 bits on a GPU.

    Args:
        name: cpu, cuda, cuda:1 ..., mps; auto uses a GPU if there is one.
        threads: CPU threads; None keeps torch's default.

    Raises:
        InputError: there is no such device here, or the number of threads is below 1.
    """
    import torch

    if threads is not None:
        if threads < 1:
            raise InputError(f"threads: expected a number of CPU threads above 0, found {threads}")
        torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = False
    if name == "auto":
        if not torch.cuda.is_available():
            return "cpu"
        torch.cuda.set_device(take_gpu(torch.cuda.device_count()))
        return "cuda"  # the current device
    kind, _, number = name.partition(":")
    if not re.fullmatch(r"cpu|mps|cuda(:[0-9]+)?", name):
        raise InputError(f"device {printable(repr(name))}: expected auto, cpu, cuda, a number as in cuda:1, or mps")
    if kind == "cuda" and not torch.cuda.is_available() or kind == "mps" and not torch.backends.mps.is_available():
        raise InputError(f"device '{name}': torch sees no GPU of this kind; use --device cpu")
    if number and int(number) >= torch.cuda.device_count():
        raise InputError(
            f"device '{name}': torch sees {torch.cuda.device_count()} GPUs, counted from 0; use --device cuda"
        )
    return name
