"""Data modules: one data set or kind a file, real ones and embedded ones."""

if not __name__.startswith("trellis."):
    raise ImportError("import trellis.datamodules (this name would make a second copy)")
