"""Errors with confidence intervals, interventions, attributions and saved features."""
