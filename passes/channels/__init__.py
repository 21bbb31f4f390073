"""Exact removal of channels: what is constant, equal to another channel, or read by nobody."""
