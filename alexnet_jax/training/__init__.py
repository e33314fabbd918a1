"""The training step, schedules and protocols, the loop, checkpoints and health."""
