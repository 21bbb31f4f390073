"""Parts of `peers.py`: tools and their environments, workers, measurements, results."""
