"""From the manifest to pictures and numbers: distributions, the shortcut audit, distribution shift."""
