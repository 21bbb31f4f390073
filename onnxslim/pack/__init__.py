"""Packed models (``.onnxz``): for disk and network, unpacked bit for bit (docs/pack.md)."""

from __future__ import annotations

from onnxslim.pack.files import SUFFIX, is_packed, load, pack, require, save, unpack

__all__ = ["SUFFIX", "is_packed", "load", "pack", "require", "save", "unpack"]
