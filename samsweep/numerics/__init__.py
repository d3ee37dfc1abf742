"""Arithmetic on tensors that knows nothing of networks, data or optimizers."""
