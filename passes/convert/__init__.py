"""Passes that say the same in another dialect, because the user asks."""
