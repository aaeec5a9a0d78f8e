"""What the cache saves: seconds an epoch of KAnoCLIP from the cache, and when every epoch encodes its images again.

python benchmarks/train.py --images 64
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import torch

from kanoclip.backbones.clip import load_backbone
from kanoclip.config import BackboneConfig
from kanoclip.datasets.index import load_image, read_index
from kanoclip.datasets.prepare import prepare
from kanoclip.datasets.specs import load_spec
from kanoclip.features import FeatureCache, encode
from kanoclip.methods.kanoclip.model import KAnoCLIP, KAnoCLIPOptions
from kanoclip.training import TrainingData


def main() -> None:
    """Print seconds an epoch and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="kanoclip-tiny")
    parser.add_argument("--weights", default="random:0")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--width", type=int, default=64, help="of Bi-CMCI")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    config = BackboneConfig(model=args.model, weights=args.weights, image_size=args.image_size)
    backbone = load_backbone(config, args.device)
    options = KAnoCLIPOptions(width=args.width, heads=4, batch_size=args.batch_size)
    streams = KAnoCLIP.streams(options, backbone.quarters, backbone.layers)
    with tempfile.TemporaryDirectory() as folder:
        index, features = Path(folder) / "index.csv", Path(folder) / "features.h5"
        prepare(load_spec("synthetic_auxiliary"), index, Path(folder))
        encode(index, backbone, streams, features)
        frame = read_index(index)
        cache = FeatureCache(features, frame["image"].tolist())
        data = TrainingData(cache, frame, streams, args.image_size, backbone.device)
        torch.manual_seed(0)
        method = KAnoCLIP(backbone, options, 0).to(args.device)
        method.learn_knowledge({name: [f"a {name} with a crack"] for name in frame["class_name"].unique()})
        optimizer = torch.optim.Adam(method.parameter_groups())
        rows = torch.randperm(len(frame))[: args.images].split(args.batch_size)

        def epoch(encode_again: bool) -> float:
            started = time.perf_counter()
            for chosen in rows:
                if encode_again:
                    paths = frame["image_path"].iloc[chosen.tolist()]
                    backbone.encode_images(torch.stack([backbone.preprocess(load_image(p)) for p in paths]), streams)
                optimizer.zero_grad()
                torch.stack(list(method.losses(data.batch(chosen.tolist())).values())).sum().backward()
                optimizer.step()
            return time.perf_counter() - started

        epoch(False)  # warm-up
        cached, again = (min(epoch(encode_again) for _ in range(2)) for encode_again in (False, True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{args.model} at {args.image_size} px, {args.images} images, batch {args.batch_size}, {args.device}")
    print(f"from the cache      {cached:8.2f} s an epoch")
    print(f"encoding every time {again:8.2f} s an epoch   {again / cached:.2f} times as long")
    print(f"peak memory         {peak:8.2f} GiB")


if __name__ == "__main__":
    main()
