"""Passes that remove what the output of a model does not depend on."""
