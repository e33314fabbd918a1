"""Configurations, workdirs, runs and trained models."""
