"""A feature source that reads ahead from a cache, or keeps all features on a GPU."""

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from kanoclip.backbones.clip import Backbone
from kanoclip.backbones.taps import Features, Tap
from kanoclip.features.cache import FeatureCache
from kanoclip.features.source import Rows, as_read
from kanoclip.types import logger

AHEAD = 2  # batches read before they are needed
HELD_AT_ONCE = 64  # images per copy to the GPU
SHARE_OF_MEMORY = 0.5  # largest share of a GPU's free memory for features; the rest is for training


class CachedFeatures:
    """Features read from a cache, and kept on a GPU if they fit.

    Args:
        cache: cache of the dataset.
        backbone: the backbone of the features, which are returned on its device.
        keep: whether to hold all features on the device; default: on a GPU, if they fit into half of its free memory.
    """

    def __init__(self, cache: FeatureCache, backbone: Backbone, keep: bool | None = None):
        self.cache, self.backbone, self._keep = cache, backbone, keep
        self._kept: Features = {}

    def require(self, taps: Collection[Tap], wanted_by: str) -> None:
        """Refuse taps that the cache does not hold, or a cache of another backbone."""
        self.cache.require(self.backbone.provenance(), taps, wanted_by)

    def stream(self, batches: Sequence[Rows], taps: Collection[Tap]) -> Iterator[Features]:
        """Read batch by batch; see `FeatureSource.stream`."""
        device = self.backbone.device
        if self._fits(taps) if self._keep is None else self._keep:
            self._hold(taps)
        if set(taps) <= self._kept.keys():
            for rows in batches:
                chosen = torch.tensor(rows, device=device)
                yield {tap: self._kept[tap][chosen].float() for tap in taps}
            return
        with ThreadPoolExecutor(1) as pool:  # one thread, since HDF5 serialises reads
            ready: deque[Future[Features]] = deque()
            try:
                for rows in batches:
                    ready.append(pool.submit(self.cache.read, rows, taps))
                    if len(ready) > AHEAD:
                        yield as_read(ready.popleft().result(), device)
                while ready:
                    yield as_read(ready.popleft().result(), device)
            finally:
                pool.shutdown(cancel_futures=True)

    def _hold(self, taps: Collection[Tap]) -> None:
        """Copy taps to the device a few images at a time, since together they may not fit into host memory."""
        count = len(self.cache)
        for tap in sorted(set(taps) - self._kept.keys()):
            kept: Tensor | None = None
            for start in range(0, count, HELD_AT_ONCE):
                rows = range(start, min(start + HELD_AT_ONCE, count))
                part = self.cache.read(rows, [tap])[tap]
                if kept is None:
                    kept = torch.empty((count, *part.shape[1:]), dtype=part.dtype, device=self.backbone.device)
                kept[rows.start : rows.stop] = part
            assert kept is not None
            self._kept[tap] = kept

    def _fits(self, taps: Collection[Tap]) -> bool:
        device, wanted = self.backbone.device, set(taps) - self._kept.keys()
        if device.type != "cuda":
            return False
        if not wanted:
            return True
        needed, free = self.cache.size_of(wanted), torch.cuda.mem_get_info(device)[0]
        fits = needed < SHARE_OF_MEMORY * free
        logger.info(
            "features: %.1f GB, %s (%.1f GB of the GPU are free)",
            needed / 1e9,
            "kept on the GPU" if fits else "read from the cache in every epoch",
            free / 1e9,
        )
        return fits
