"""Measurements, and a search for wrong results."""
