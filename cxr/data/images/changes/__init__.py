"""Changes to images: random augmentation for training, and the fixed worlds of stress tests."""
