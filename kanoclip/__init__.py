"""Zero-shot anomaly detection with CLIP: KAnoCLIP and the methods it is compared with."""

__version__ = "0.1.0"
