"""Where to compute."""

from kanoclip.gpus import take_gpu
from kanoclip.types import InputError


def choose_device(name: str, threads: int | None) -> str:
    """Set the number of threads and choose where to compute.

    fp32 means fp32 on a GPU too: torch would compute convolutions in TF32 there, which keeps 10 bits of the mantissa.

    Args:
        name: cpu, cuda, cuda:1 ...; auto takes a GPU if there is one.
        threads: CPU threads; None leaves them to torch.

    Raises:
        InputError: a GPU is asked for and there is none.
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
