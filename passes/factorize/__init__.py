"""Passes that write a layer's weights as products and sums of smaller ones."""
