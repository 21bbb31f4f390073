"""Passes that need what passes may not import: a tuner, say."""
