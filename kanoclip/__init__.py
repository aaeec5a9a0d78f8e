"""Zero-shot anomaly detection with CLIP: KAnoCLIP and the methods it is compared with.

`kanoclip.load` builds a detector. What is named in `__all__` is imported when it is first used, so that commands which
need no torch start at once; the types of these names are in `__init__.pyi`.
"""

from importlib import import_module

__version__ = "0.1.0"
__all__ = ["Calibration", "Detector", "InputError", "Region", "Result", "Threshold", "__version__", "load"]


def __getattr__(name: str) -> object:
    """Import a name of the Python API when it is first used (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'kanoclip' has no attribute '{name}'")
    module = "types" if name == "InputError" else "predict"
    return getattr(import_module(f"{__name__}.{module}"), name)


def __dir__() -> list[str]:
    """List the names of the Python API too."""
    return sorted({*globals(), *__all__})
