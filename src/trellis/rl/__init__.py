"""Reinforcement learning without a trainer: tables, bandits, buffers and schedules."""
