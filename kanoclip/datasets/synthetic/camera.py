"""The camera model: harmless variation between images (light, shadow, exposure, blur, noise)."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from kanoclip.datasets.synthetic.canvas import Array, Canvas, Scene

DARKEST = 0.22  # mean brightness below which a photograph gets a longer exposure


class Camera:
    """Random camera settings, drawn once and applied to both the normal and the defective scene."""

    def __init__(self, c: Canvas, scene: Scene) -> None:
        """Draw light, exposure, blur and noise.

        Args:
            c: coordinates and random numbers.
            scene: the normal scene; a photograph gets uneven light, shadows, glare, a colour cast and, if it is
                dark, a longer exposure; a scan is evenly lit and grey.
        """
        photo = scene.photo
        exposure = float(np.clip(DARKEST / scene.image.mean(), 1.0, 4.0)) if photo else 1.0
        self.gain = np.full((c.size, c.size, 3), exposure * c.uniform(0.8, 1.2), np.float32)
        self.glare = np.zeros((c.size, c.size, 1), np.float32)
        self.grey = False
        if photo:
            self.gain *= _light(c)[..., None] * (1 + c.rng.uniform(-0.05, 0.05, 3)).astype(np.float32)
            self.grey = c.chance(0.2)
            if c.chance(0.2):
                spot = c.blob((c.uniform(-1, 1), c.uniform(-1, 1)), c.uniform(0.2, 0.5), 0.3, c.size / 4)
                self.glare = spot[..., None] * np.float32(c.uniform(0.05, 0.25))
        self.gamma = c.uniform(0.8, 1.25)
        self.blur = c.uniform(0.4, 1.1) * c.size / 128 if c.chance(0.5) else 0.0
        deviation = c.uniform(0.0, 0.025)
        self.noise = c.rng.standard_normal((c.size, c.size, 3), dtype=np.float32) * np.float32(deviation)

    def take(self, image: Array) -> NDArray[np.uint8]:
        """Apply the camera to a scene.

        Args:
            image: (S, S, 3), about 0..1.

        Returns:
            (S, S, 3) in 0..255.
        """
        if self.grey:
            image = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
        seen = np.clip(image * self.gain + self.glare, 0, 1) ** np.float32(self.gamma)
        if self.blur:
            seen = gaussian_filter(seen, (self.blur, self.blur, 0), truncate=3)
        return np.clip((seen + self.noise) * 255 + 0.5, 0, 255).astype(np.uint8)


def _light(c: Canvas) -> Array:
    """Return a brightness factor (S, S): a slope of light, sometimes a vignette or the edge of a shadow."""
    angle, slope = c.uniform(0, 2 * np.pi), c.uniform(0, 0.25)
    light = 1 + np.float32(slope * np.cos(angle)) * c.x + np.float32(slope * np.sin(angle)) * c.y
    if c.chance(0.3):
        light = light * (1 - np.float32(c.uniform(0.05, 0.25)) * (c.x * c.x + c.y * c.y))
    if c.chance(0.2):
        u, _ = c.posed(c.uniform(-np.pi, np.pi), (c.uniform(-0.6, 0.6), c.uniform(-0.6, 0.6)))
        light = light * (1 - np.float32(c.uniform(0.1, 0.45)) * c.cover(u, c.uniform(2, c.size / 3)))
    return light
