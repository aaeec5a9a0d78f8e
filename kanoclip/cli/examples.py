"""One example per command, shown at the end of its help and on the page of all commands."""

EXAMPLES = {
    "predict": 'predict photos/ --class-name "metal plate" --normals photos/good --out predictions',
    "calibrate": 'calibrate photos/good --class-name "metal plate" --false-alarms 0.05 --out card.json',
    "plan": "plan --configfile config/config.yaml --config 'only=[kanoclip]'",
    "downloads": "downloads --configfile config/config.yaml",
    "fetch-backbone": "fetch-backbone --out backbone.json --set model=ViT-L-14-336-quickgelu --set weights=openai",
    "download": "download --dataset visa",
    "prepare": "prepare --dataset synthetic --out index.csv",
    "photographs": "photographs --source dtd --source imagenet_sample --out photographs",
    "knowledge": "knowledge --dataset synthetic --index index.csv --out knowledge.jsonl",
    "encode": """encode --index index.csv --out features.h5 --tap tokens/4 \\
    --set model=kanoclip-tiny --set weights=embedded --set image_size=128""",
    "train": """train --method april_gan --auxiliary synthetic --index index.csv \\
    --knowledge knowledge.jsonl --features features.h5 --seed 111 --out models""",
    "cross-validate": """cross-validate --method april_gan --index index.csv --knowledge knowledge.jsonl \\
    --features features.h5 --set epochs=5 --out validation""",
    "fetch-weights": "fetch-weights anomalyclip --auxiliary visa",
    "score": "score --method clip --features features.h5 --index index.csv --out scores/clip",
    "score-pass": """score-pass --results results/quickstart --target elpv --backbone kanoclip-tiny-128 \\
    --backbone-set model=kanoclip-tiny --backbone-set weights=embedded \\
    --row '{"row": "clip", "method": "clip", "options": {}, "auxiliary": "none", "seeds": [111]}'""",
    "export": 'export --checkpoint models/seed111/checkpoint.safetensors --class-name "metal plate" --out model.onnx',
    "evaluate": "evaluate scores/clip --index index.csv",
    "compare": "compare scores/clip/scores.h5 scores/winclip/scores.h5 --index index.csv",
    "protocol": "protocol --out protocol.json --set 'targets=[elpv]'",
    "tables": "tables scores/clip/metrics.csv --protocol protocol.json --out tables",
    "runtime": "runtime scores/clip/cost.json --protocol protocol.json --models models --out tables",
    "figure": "figure histograms=histograms.png --index index.csv --scores scores/clip/scores.h5",
    "page": "page --table tables/main.html figures/bars.png --title Quickstart --out index.html",
    "pretrain": "pretrain --out pretraining --threads 8",
    "import": "import anomalyclip epoch_15.pth --auxiliary visa --out checkpoint.safetensors",
    "list": "list methods",
    "schema": "schema --out config.schema.json",
    "overview": "overview --out docs/methods/README.md --readme README.md",
}
"""Command name to an example without the leading `kanoclip`."""


def epilog(command: str) -> str:
    """Return the last lines of the help of a command."""
    # \b keeps click from wrapping the lines
    return f"\b\nExample:\n  kanoclip {EXAMPLES[command]}"
