"""What is told to the tracking server, by the child process alone: MLflow takes seconds to import."""
