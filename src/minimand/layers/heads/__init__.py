"""Auxiliary heads: the classifiers that local learning puts on hidden layers."""
