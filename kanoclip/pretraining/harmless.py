"""Changes of a whole image that are not defects, so that a method must not respond to them."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter, rotate

from kanoclip.datasets.synthetic.canvas import Array, Canvas, mix
from kanoclip.pretraining.fittings import holders, holes, hook

Change = Callable[[Canvas, Array, Array], Array]


def shadow(c: Canvas, image: Array, other: Array) -> Array:
    """Add the soft edge of a shadow across the image, or a soft band."""
    u, _ = c.posed(c.uniform(-np.pi, np.pi), (c.uniform(-0.6, 0.6), c.uniform(-0.6, 0.6)))
    away = np.abs(u) - np.float32(c.uniform(0.1, 0.5)) if c.chance(0.4) else u
    return image * (1 - np.float32(c.uniform(0.15, 0.6)) * c.cover(away, c.uniform(3, c.size / 3)))[..., None]


def seam(c: Canvas, image: Array, other: Array) -> Array:
    """Add one to three straight lines from border to border: dark, bright, or a joint between shifted halves."""
    angle = c.uniform(-0.06, 0.06) + c.rng.integers(2) * np.pi / 2 if c.chance(0.7) else c.uniform(0, np.pi)
    for _ in range(int(c.rng.integers(1, 4))):
        u, _ = c.posed(angle, (c.uniform(-0.8, 0.8), c.uniform(-0.8, 0.8)))
        line = c.cover(np.abs(u) - np.float32(c.uniform(0.01, 0.06)), c.uniform(1, 3))
        image = mix(image, np.full(3, c.uniform(0, 1), np.float32), line * np.float32(c.uniform(0.3, 1)))
    return image


def border(c: Canvas, image: Array, other: Array) -> Array:
    """End the surface at a straight edge, beyond which a plain ground or another surface begins."""
    u, _ = c.posed(c.rng.integers(4) * np.pi / 2 + c.uniform(-0.15, 0.15))
    ground = np.zeros_like(image) + c.rng.uniform(0, 1, 3).astype(np.float32) if c.chance(0.6) else other
    if c.chance(0.4):
        ground = np.zeros_like(image) + np.float32(c.uniform(0, 1))
    return mix(image, ground, c.cover(np.float32(c.uniform(0.4, 0.9)) - u, c.uniform(1, 3)))


def frame(c: Canvas, image: Array, other: Array) -> Array:
    """Rotate the whole image; the uncovered corners are plain."""
    tone = float(c.rng.choice([0.0, 1.0, c.uniform(0, 1)]))
    turned = rotate(image, c.uniform(-25, 25), (0, 1), reshape=False, order=1, cval=tone)
    return turned.astype(np.float32)


def print_(c: Canvas, image: Array, other: Array) -> Array:
    """Print lines of letters or a repeated mark on the surface."""
    canvas = Image.new("L", (c.size, c.size))
    draw, height = ImageDraw.Draw(canvas), int(c.rng.integers(8, 26))
    font = ImageFont.load_default(size=height)
    top, left = int(c.rng.integers(0, c.size - 30)), int(c.rng.integers(-10, c.size // 3))
    for line in range(int(c.rng.integers(1, 4))):
        letters = "".join(chr(letter) for letter in c.rng.integers(48, 91, int(c.rng.integers(3, 12))))
        draw.text((left, top + line * int(height * 1.2)), letters, fill=255, font=font)
    ink = np.asarray(canvas.rotate(c.uniform(-20, 20)), np.float32) / 255
    return mix(image, c.rng.uniform(0, 1, 3).astype(np.float32), ink * np.float32(c.uniform(0.5, 1)))


def exposure(c: Canvas, image: Array, other: Array) -> Array:
    """Light one side more than the other, and change the gamma."""
    angle, slope = c.uniform(0, 2 * np.pi), np.float32(c.uniform(0.2, 0.6))
    light = 1 + slope * (np.float32(np.cos(angle)) * c.x + np.float32(np.sin(angle)) * c.y)
    return np.clip(image * light[..., None], 0, 1) ** np.float32(c.uniform(0.6, 1.6))


def blur(c: Canvas, image: Array, other: Array) -> Array:
    """Blur the whole image, out of focus or in motion."""
    width = c.uniform(0.6, 2.0)
    return gaussian_filter(image, (width, width * c.uniform(0.3, 1), 0))


def sensor_noise(c: Canvas, image: Array, other: Array) -> Array:
    """Add sensor noise: white, sometimes coarse or equal in all colours."""
    channels = 1 if c.chance(0.4) else 3
    noise = c.rng.standard_normal((c.size, c.size, channels), dtype=np.float32) * np.float32(c.uniform(0.02, 0.09))
    if c.chance(0.3):
        noise = gaussian_filter(noise, (0.8, 0.8, 0)) * 2
    return image + noise


def jpeg(c: Canvas, image: Array, other: Array) -> Array:
    """Add the blocks and ringing of strong JPEG compression."""
    buffer = io.BytesIO()
    Image.fromarray((np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)).save(
        buffer, "JPEG", quality=int(c.rng.integers(12, 60))
    )
    return np.asarray(Image.open(buffer, formats=("JPEG",)), np.float32) / 255


CHANGES: dict[str, Change] = {
    "shadow": shadow,
    "seam": seam,
    "border": border,
    "frame": frame,
    "print": print_,
    "exposure": exposure,
    "blur": blur,
    "sensor_noise": sensor_noise,
    "jpeg": jpeg,
    "holes": holes,
    "hook": hook,
    "holders": holders,
}
