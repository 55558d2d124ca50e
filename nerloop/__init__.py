"""The shared core of the annotation loop: documents, model, registry and the doors to other systems."""

__version__ = "0.1.0"
