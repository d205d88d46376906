"""ctscribe: a chest CT goes in, a report comes out, and it shows whether the model looked."""

__version__ = "0.1.0"
__all__ = ["__version__"]
