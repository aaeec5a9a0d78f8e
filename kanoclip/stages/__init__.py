"""The stages that join several parts of the package, one module each."""
