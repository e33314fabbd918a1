"""Comparisons of features: dissimilarity matrices, RSA, CKA and linear probes."""
