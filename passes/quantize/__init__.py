"""Passes that store or compute weights and activations in few bits."""
