"""What a run does beside learning: saving, guarding, resuming, showing."""
