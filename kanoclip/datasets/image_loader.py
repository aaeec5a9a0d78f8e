"""Load batches of images ahead of the consumer, in threads: Pillow decodes and resizes without holding the GIL."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from kanoclip.datasets.images import load_square


class ImageLoader:
    """Worker threads that read images as square uint8 arrays; a context manager.

    Pixels stay uint8, so that a batch is small to transfer and can be normalised on the device. These operations, in
    this order, give bit-identical float32 values to `open_clip.image_transform`:

        (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std

    On a GPU 255 must be a tensor: torch multiplies by the reciprocal of a Python number instead of dividing by it.

    Args:
        size: the side S of the squares, in pixels.
        workers: threads that load images.
        ahead: batches to load before they are asked for.
    """

    def __init__(self, size: int, workers: int = 1, ahead: int = 2):
        self.size = size
        self.ahead = ahead
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="load")

    def __enter__(self) -> "ImageLoader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancel pending work and stop the threads."""
        self._pool.shutdown(cancel_futures=True)

    def stream(self, batches: Iterable[Sequence[str]]) -> Iterator[NDArray[np.uint8]]:
        """Load batches, in order, while the consumer works on earlier ones.

        Args:
            batches: the image paths of each batch; consumed only as far as batches are loaded ahead.

        Yields:
            (B, S, S, 3) RGB for each batch; the consumer may keep or change it.

        Raises:
            InputError: an image of the next batch cannot be read; one line that names the file.
        """
        pending: deque[tuple[NDArray[np.uint8], list[Future[None]]]] = deque()
        try:
            for paths in batches:
                pending.append(self._begin(paths))
                if len(pending) > self.ahead:
                    yield _finish(*pending[0])
                    pending.popleft()
            while pending:
                yield _finish(*pending[0])
                pending.popleft()
        finally:
            for _, images in pending:
                for image in images:
                    image.cancel()

    def _begin(self, paths: Sequence[str]) -> tuple[NDArray[np.uint8], list[Future[None]]]:
        """Submit the images of a batch to the workers, which fill the array."""
        batch = np.empty((len(paths), self.size, self.size, 3), np.uint8)
        return batch, [self._pool.submit(self._load_into, batch[row], path) for row, path in enumerate(paths)]

    def _load_into(self, place: NDArray[np.uint8], path: str) -> None:
        place[:] = load_square(path, self.size)


def _finish(batch: NDArray[np.uint8], images: list[Future[None]]) -> NDArray[np.uint8]:
    """Wait until a batch is complete; raise the error of its first broken image."""
    for image in images:
        image.result()
    return batch
