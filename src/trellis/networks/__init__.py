"""Networks: plain ``nn.Module`` classes, one family a file, usable without Lightning."""
