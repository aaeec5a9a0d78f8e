"""Drawing tools for kinds and defects: coordinates, coverage of shapes, noise, colours, relief, strokes, blobs."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Array = NDArray[np.floating]

COLOURS: dict[str, tuple[float, float, float]] = {
    "black": (0.10, 0.10, 0.11),
    "grey": (0.50, 0.50, 0.51),
    "white": (0.88, 0.88, 0.86),
    "silver": (0.68, 0.69, 0.71),
    "red": (0.66, 0.16, 0.14),
    "orange": (0.82, 0.45, 0.16),
    "yellow": (0.84, 0.72, 0.24),
    "green": (0.20, 0.46, 0.26),
    "blue": (0.18, 0.32, 0.60),
    "brown": (0.46, 0.31, 0.20),
    "beige": (0.78, 0.68, 0.53),
    "pink": (0.82, 0.55, 0.58),
}


@dataclass(frozen=True)
class Scene:
    """A normal image before the camera model, with the data that defects need.

    Attributes:
        image: (S, S, 3), 0..1.
        inside: (S, S), 0..1, the coverage of the object; 1 everywhere for a texture.
        behind: (S, S, 3), visible where a piece of the object is missing.
        colour: the name of the main colour, a key of COLOURS.
        parts: coverages (S, S) of the pieces that can be missing or misplaced.
        bare: (S, S, 3), the image without the parts.
        photo: whether it is a colour photograph; otherwise a grey scan, whose brightness has a meaning.
    """

    image: Array
    inside: Array
    behind: Array
    colour: str
    parts: tuple[Array, ...] = ()
    bare: Array | None = None
    photo: bool = True


@lru_cache(maxsize=8)
def _coordinates(size: int) -> tuple[Array, Array]:
    """Return pixel centres (x, y), each (S, S), in -1..1, with y pointing down."""
    axis = ((np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1).astype(np.float32)
    x, y = np.meshgrid(axis, axis)
    return x, y


@lru_cache(maxsize=8)
def _frequencies(size: int) -> tuple[Array, Array]:
    """Return the frequencies (along x, along y) of a real FFT in cycles per image, each (S, S // 2 + 1)."""
    along_x = np.fft.rfftfreq(size, 1 / size).astype(np.float32)
    along_y = np.fft.fftfreq(size, 1 / size).astype(np.float32)
    return np.broadcast_to(along_x, (size, along_x.size)), np.broadcast_to(along_y[:, None], (size, along_x.size))


class Canvas:
    """A square of pixels with coordinates in -1..1, and the random number generator of one image.

    Attributes:
        rng: the source of all random numbers of this image.
        size: pixels per side.
        pixel: the width of a pixel in coordinates.
        x, y: pixel centres, each (S, S).
    """

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self.rng = rng
        self.size = size
        self.pixel = 2 / size
        self.x, self.y = _coordinates(size)

    def uniform(self, low: float, high: float) -> float:
        """Return a random number in [low, high)."""
        return low + (high - low) * self.rng.random()

    def chance(self, probability: float) -> bool:
        """Return True with a probability."""
        return bool(self.rng.random() < probability)

    def posed(self, angle: float, shift: tuple[float, float] = (0.0, 0.0), scale: float = 1.0) -> tuple[Array, Array]:
        """Return coordinates (u, v) of an object that is shifted, scaled and turned by an angle in radians."""
        x, y = self.x - np.float32(shift[0]), self.y - np.float32(shift[1])
        cos, sin = np.float32(np.cos(angle) / scale), np.float32(np.sin(angle) / scale)
        return cos * x + sin * y, cos * y - sin * x

    def pose(self, low: float, high: float, turn: float = np.pi, shift: float = 0.08) -> tuple[Array, Array]:
        """Return a random pose: scale in [low, high), angle up to `turn` either way, shift up to `shift` per axis."""
        offset = (self.uniform(-shift, shift), self.uniform(-shift, shift))
        return self.posed(self.uniform(-turn, turn), offset, self.uniform(low, high))

    def cover(self, distance: Array, softness: float = 1.0) -> Array:
        """Return the coverage 0..1 of a shape from its signed distance (negative inside); `softness` is in pixels."""
        return np.clip(0.5 - distance / np.float32(self.pixel * softness), 0, 1)

    def noise(self, exponent: float, stretch: float = 1.0, angle: float = 0.0, lowest: float = 1.0) -> Array:
        """Return noise with a power-law spectrum, zero mean and unit standard deviation.

        Args:
            exponent: the amplitude falls as frequency ** -exponent; 0 is white noise.
            stretch: length-to-width ratio of the structures, which lie along `angle`.
            angle: in radians.
            lowest: frequency in cycles per image below which the spectrum is flat.

        Returns:
            (S, S).
        """
        fx, fy = _frequencies(self.size)
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        along, across = (cos * fx + sin * fy) * np.float32(stretch), cos * fy - sin * fx
        squared = np.maximum(along * along + across * across, np.float32(lowest**2))
        return self._filtered(squared ** np.float32(-exponent / 2))

    def band_noise(self, frequency: float, octaves: float = 0.35) -> Array:
        """Return noise around a frequency (cycles per image), with zero mean and unit standard deviation."""
        fx, fy = _frequencies(self.size)
        distance = np.log2(np.maximum(fx * fx + fy * fy, np.float32(0.25)) / np.float32(frequency**2)) / 2
        return self._filtered(np.exp(-0.5 * (distance / np.float32(octaves)) ** 2))

    def _filtered(self, amplitude: Array) -> Array:
        white = self.rng.standard_normal((self.size, self.size), dtype=np.float32)
        spectrum = scipy.fft.rfft2(white) * amplitude
        spectrum[0, 0] = 0
        filtered = scipy.fft.irfft2(spectrum, s=white.shape)
        return filtered / np.float32(filtered.std() + 1e-6)

    def colour(self, *names: str, jitter: float = 0.06) -> tuple[str, Array]:
        """Return one of the named colours (of all if none is named), slightly varied: name and (3,) in 0..1."""
        name = str(self.rng.choice(names or tuple(COLOURS)))
        varied = np.array(COLOURS[name]) * self.uniform(0.85, 1.15) + self.rng.uniform(-jitter, jitter, 3)
        return name, np.clip(varied, 0.03, 0.97).astype(np.float32)

    def backdrop(self, *names: str) -> Array:
        """Return the background of an object: a plain or slightly rough surface, (S, S, 3)."""
        _, rgb = self.colour(*(names or ("black", "grey", "white", "beige", "blue")), jitter=0.03)
        rough = self.noise(self.uniform(0.4, 1.5)) * np.float32(self.uniform(0.0, 0.05))
        return rgb + rough[..., None]

    def stroke(self, centre: tuple[float, float], length: float, width: float, bend: float, jag: float) -> Array:
        """Return the coverage (S, S) of a line that bends smoothly and jags.

        Args:
            centre: (x, y).
            length: in coordinates (the image is 2 units wide).
            width: in coordinates; at least one pixel is drawn.
            bend: amplitude of the slow bending, relative to the length.
            jag: amplitude of the fast jagging, relative to the length.
        """
        u, v = self.posed(self.uniform(-np.pi, np.pi), centre)
        knots = np.linspace(-0.5, 0.5, 17)
        phase, turns = self.uniform(0, 2 * np.pi), self.uniform(0.4, 1.3)
        path = bend * np.sin(2 * np.pi * turns * knots + phase) + jag * self.rng.uniform(-1, 1, knots.size)
        path -= path[knots.size // 2]
        fine = np.linspace(-0.5, 0.5, 129)
        height = np.interp(fine, knots, path)
        slope = np.sqrt(1 + np.gradient(height, fine) ** 2)
        index = np.clip((u / np.float32(length) + 0.5) * 128, 0, 128).astype(np.intp)
        away = np.abs(v - (height * length).astype(np.float32)[index]) / slope.astype(np.float32)[index]
        beyond = np.maximum(np.abs(u) - np.float32(length / 2), 0)
        half = max(width, self.pixel) / 2
        return self.cover(np.hypot(away, beyond) - np.float32(half))

    def blob(self, centre: tuple[float, float], radius: float, irregular: float, softness: float = 1.5) -> Array:
        """Return the coverage (S, S) of a roundish spot; `irregular` (0..1) roughens it, softness is in pixels."""
        u, v = self.posed(self.uniform(-np.pi, np.pi), centre)
        stretch = np.float32(self.uniform(1.0, 1.0 + irregular))
        u, v = u / stretch, v * stretch
        angle, distance = np.arctan2(v, u), np.hypot(u, v)
        outline = np.ones_like(angle)
        for waves in (2, 3, 5, 8):
            share = np.float32(irregular * self.uniform(0.1, 0.5) / waves**0.7)
            outline += share * np.cos(waves * angle + np.float32(self.uniform(0, 2 * np.pi)))
        return self.cover(distance - np.float32(radius) * outline, softness)


def mix(first: Array, second: Array, share: Array) -> Array:
    """Blend two images: `share` (S, S) of the second, broadcast over colours."""
    weight = share[..., None]
    return first + (second - first) * weight


def lit(height: Array, angle: float, strength: float) -> Array:
    """Return the brightness (S, S) of a relief lit from an angle; 1 where flat. `height` is in units of a pixel."""
    slope_x = np.empty_like(height)
    slope_y = np.empty_like(height)
    slope_x[:, 1:] = height[:, 1:] - height[:, :-1]
    slope_x[:, 0] = slope_x[:, 1]
    slope_y[1:] = height[1:] - height[:-1]
    slope_y[0] = slope_y[1]
    slope = slope_x * np.float32(np.cos(angle)) + slope_y * np.float32(np.sin(angle))
    return np.clip(1 + np.float32(strength) * slope, 0.2, 1.9)


def triangle(value: Array) -> Array:
    """Return the distance to the nearest integer, 0..0.5."""
    return np.abs(value - np.round(value))


def hashed(first: Array, second: Array, key: int) -> Array:
    """Return a repeatable random number 0..1 for every pair of integer cell coordinates."""
    cells = first.astype(np.int64) * 73856093 ^ second.astype(np.int64) * 19349663 ^ key
    return ((cells * 2654435761 >> 8) % 65536).astype(np.float32) / 65536
