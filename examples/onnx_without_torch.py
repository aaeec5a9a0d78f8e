"""Score images with a model.onnx of `kanoclip export`: numpy, Pillow and onnxruntime, no torch.

python examples/onnx_without_torch.py model.onnx IMAGE...   # prints a score per image, writes IMAGE.map.png beside it
"""

import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
size = session.get_inputs()[0].shape[1]  # images: (B, S, S, 3) uint8 RGB
for path in sys.argv[2:]:
    with Image.open(path, formats=["PNG", "JPEG", "BMP", "WEBP"]) as image:
        if image.mode.startswith(("I", "F")):
            sys.exit(f"{path}: expected 8 bits per channel, found Pillow's mode {image.mode}; convert it to 8 bits")
        upright = ImageOps.exif_transpose(image).convert("RGB")
    square = np.asarray(upright.resize((size, size), Image.Resampling.BICUBIC))
    maps, scores = session.run(["maps", "scores"], {"images": square[None]})  # (1, S, S) and (1,)
    shade = 255 * (maps[0] - maps[0].min()) / max(np.ptp(maps[0]), 1e-9)
    Image.fromarray(shade.astype(np.uint8)).save(f"{path}.map.png")
    print(f"{scores[0]:.4f}  {path}")
