"""Choose the device to compute on."""

from kanoclip.gpus import take_gpu
from kanoclip.types import InputError


def choose_device(name: str, threads: int | None) -> str:
    """Set the number of threads and choose the device.

    TF32 is switched off: torch would otherwise compute fp32 convolutions with a mantissa of 10 bits on a GPU.

    Args:
        name: cpu, cuda, cuda:1 ...; auto uses a GPU if there is one.
        threads: CPU threads; None keeps torch's default.

    Raises:
        InputError: a GPU is requested and there is none.
    """
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = False
    if name == "auto":
        if not torch.cuda.is_available():
            return "cpu"
        torch.cuda.set_device(take_gpu(torch.cuda.device_count()))
        return "cuda"  # the current device
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device '{name}': torch sees no GPU; use --device cpu")
    return name
