"""The model for other runtimes: files in their formats, each proven in a fresh interpreter before it is published."""
