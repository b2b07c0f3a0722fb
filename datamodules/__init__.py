"""Data modules: real and synthetic data sets, one or one kind per file."""

if not __name__.startswith("trellis."):
    raise ImportError("import trellis.datamodules (this name would make a second copy)")
