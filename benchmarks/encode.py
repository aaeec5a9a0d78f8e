"""Measure the cost of the second stream: images per second for one stream, and for both in one or two forward passes.

python benchmarks/encode.py --model kanoclip-tiny --weights random:0 --image-size 128 --images 64
"""

import argparse
import time
from collections.abc import Collection

import torch

from kanoclip.backbones.clip import load_backbone
from kanoclip.backbones.taps import Tap
from kanoclip.config import BackboneConfig


def main() -> None:
    """Print images per second and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="kanoclip-tiny")
    parser.add_argument("--weights", default="random:0")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    config = BackboneConfig(model=args.model, weights=args.weights, image_size=args.image_size)
    backbone = load_backbone(config, args.device)
    pixels = torch.randn(args.batch_size, 3, args.image_size, args.image_size)
    original = {Tap("cls", backbone.layers), Tap("tokens", backbone.layers)}
    local = {Tap("vv", block) for block in backbone.quarters}

    def rate(*forwards: Collection[Tap]) -> float:
        """Return images per second, the best of three rounds after a warm-up."""
        rates = []
        for _ in range(4):
            started = time.perf_counter()
            for _ in range(args.images // args.batch_size):
                for taps in forwards:
                    features = backbone.encode_images(pixels, taps)
                    features[max(features)].cpu()  # waits for a GPU
            rates.append(args.images / (time.perf_counter() - started))
        return max(rates[1:])

    one, both, twice = rate(original), rate(original | local), rate(original, local)
    print(f"{args.model} at {args.image_size} px, {args.threads} thread(s), {args.device}, batch {args.batch_size}")
    print(f"original stream      {one:8.1f} images/s")
    print(f"both, one pass       {both:8.1f} images/s   {both / one:.2f} of one stream")
    print(f"both, two passes     {twice:8.1f} images/s   one pass is {both / twice:.2f} times as fast")


if __name__ == "__main__":
    main()
