"""Passes that replace several nodes by one that computes the same."""
