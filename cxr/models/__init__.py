"""From the manifest to a selected model: architectures, features, training, scoring, selection."""
