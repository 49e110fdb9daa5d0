"""What is told to the tracking server; only the child process imports it, because it imports MLflow."""
