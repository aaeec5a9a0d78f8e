"""Measure the time that the cache saves: seconds per epoch of KAnoCLIP with the cache and with encoding every image.

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
from kanoclip.datasets.index import read_index
from kanoclip.datasets.prepare import prepare
from kanoclip.datasets.specs import load_spec
from kanoclip.features import CachedFeatures, FeatureCache, FeatureSource, LiveFeatures, encode
from kanoclip.methods.kanoclip_paper.model import KAnoCLIP, KAnoCLIPOptions
from kanoclip.training import TrainingData


def main() -> None:
    """Print seconds per epoch and the ratio."""
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
    taps = KAnoCLIP.trains_on(options, backbone.shape)
    with tempfile.TemporaryDirectory() as folder:
        index, features = Path(folder) / "index.csv", Path(folder) / "features.h5"
        prepare(load_spec("synthetic_auxiliary"), index, Path(folder))
        encode(index, backbone, taps, features)
        frame = read_index(index)
        cached, live = CachedFeatures(FeatureCache(features, frame), backbone), LiveFeatures(frame, backbone)
        torch.manual_seed(0)
        method = KAnoCLIP(backbone, options, 0).to(args.device)
        method.learn_knowledge({name: [f"a {name} with a crack"] for name in frame["class_name"].unique()})
        (phase,) = method.phases()
        optimizer = phase.optimizer(phase.groups)
        rows = [part.tolist() for part in torch.randperm(len(frame))[: args.images].split(args.batch_size)]

        def seconds(source: FeatureSource) -> float:
            """Return the seconds of an epoch, the faster of two after a warm-up."""
            data, times = TrainingData(source, frame, args.image_size), []
            for _ in range(3):
                started = time.perf_counter()
                for batch in data.batches(rows, taps):
                    optimizer.zero_grad()
                    loss = torch.stack(list(phase.losses(batch).values())).sum()
                    loss.backward()
                    optimizer.step()
                loss.item()  # waits for a GPU
                times.append(time.perf_counter() - started)
            return min(times[1:])

        stored, again = seconds(cached), seconds(live)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{args.model} at {args.image_size} px, {args.images} images, batch {args.batch_size}, {args.device}")
    print(f"from the cache      {stored:8.2f} s per epoch")
    print(f"encoding every time {again:8.2f} s per epoch   {again / stored:.2f} times as long")
    print(f"peak memory         {peak:8.2f} GiB")


if __name__ == "__main__":
    main()
