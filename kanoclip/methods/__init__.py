"""The methods. Every module of this folder is imported, which registers its methods."""

import importlib
import pkgutil

from kanoclip.methods.base import AnomalyOutput, Batch, Method, method_class, method_names, register

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["AnomalyOutput", "Batch", "Method", "method_class", "method_names", "register"]
