"""A challenger, trained on old and new images, against the champion of a registry."""
