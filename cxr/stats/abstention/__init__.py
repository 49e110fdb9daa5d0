"""When a model should rather say nothing: sets of labels, and what is left of errors when it does."""
