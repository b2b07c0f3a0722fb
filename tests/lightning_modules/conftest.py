"""Tiny tensors: a second thread costs more than it gives, most of all on a busy machine."""

import torch

torch.set_num_threads(1)
