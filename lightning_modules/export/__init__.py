"""Trained networks in forms that other programs read."""
