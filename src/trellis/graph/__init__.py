"""Graphs before any network sees them: how they are built and walked."""
