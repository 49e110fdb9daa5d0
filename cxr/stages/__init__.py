"""The stages of the pipeline: one call each, and the steps that Prefect tasks share with them."""
