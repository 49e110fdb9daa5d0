"""What is said of an exported model: its card for programs, and what people and registries read."""
