"""Objectives: one ``LightningModule`` per way of learning, each taking any fitting network."""

if not __name__.startswith("trellis."):
    raise ImportError("import trellis.lightning_modules (this name would make a second copy)")
