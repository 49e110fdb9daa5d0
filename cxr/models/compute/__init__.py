"""What computes: Keras' backends, the GPUs of this machine, worker processes."""
