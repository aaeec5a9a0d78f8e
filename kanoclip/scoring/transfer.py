"""Copy outputs from the device to the host while the next batch is computed."""

import time

import torch
from torch import Tensor


class Transfer:
    """Asynchronous copies of tensors to the host.

    Args:
        tensors: on one device, of any floating-point type.
    """

    def __init__(self, *tensors: Tensor):
        self._copies = [tensor.float() for tensor in tensors]
        self._ready: torch.cuda.Event | None = None
        if any(tensor.is_cuda for tensor in tensors):
            pinned = [torch.empty(copy.shape, dtype=torch.float32, pin_memory=True) for copy in self._copies]
            self._copies = [
                to.copy_(source, non_blocking=True) for to, source in zip(pinned, self._copies, strict=True)
            ]
            self._ready = torch.cuda.Event()
            device = next(tensor.device for tensor in tensors if tensor.is_cuda)
            self._ready.record(torch.cuda.current_stream(device))

    def result(self) -> list[Tensor]:
        """Wait for the copies and return them, in fp32 on the CPU."""
        if self._ready is not None:
            self._ready.synchronize()
        return self._copies


class Stopwatch:
    """Measure seconds between two points of the device's work without synchronising in between.

    Args:
        device: the device to time.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._on_gpu = device.type == "cuda"
        self._marks: list[torch.cuda.Event] = []
        self._times: list[float] = []
        self.mark()

    def mark(self) -> None:
        """Record a point in time."""
        if self._on_gpu:
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self._device))
            self._marks.append(event)
        else:
            self._times.append(time.perf_counter())

    def seconds(self) -> float:
        """Return the seconds from the first mark to the last, waiting until the device has reached it."""
        if self._on_gpu:
            self._marks[-1].synchronize()
            return self._marks[0].elapsed_time(self._marks[-1]) / 1000
        return self._times[-1] - self._times[0]
