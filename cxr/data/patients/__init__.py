"""Which patient an image shows, what stands for it, and into which split each patient goes."""
