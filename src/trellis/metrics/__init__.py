"""How good samples are: tensors in, numbers out."""
