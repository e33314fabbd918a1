"""Image sets, from records to augmented batches."""
