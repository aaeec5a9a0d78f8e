"""Zero-shot anomaly detection with CLIP: KAnoCLIP and the methods it is compared with."""

from importlib.metadata import version

__version__ = version("kanoclip")
