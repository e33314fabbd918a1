"""Image sets prepared from any source, once, as records."""
