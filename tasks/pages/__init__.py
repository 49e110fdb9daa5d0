"""What the Prefect UI shows of a stage, as tables and Markdown pages (Prefect's artifacts)."""
