"""Nets as tables, the Flax module that runs them, and the device mesh."""
