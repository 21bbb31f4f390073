"""Passes that use onnxruntime's own operators (com.microsoft), which no other runtime knows."""
