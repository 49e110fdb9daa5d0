"""The chosen model on the test set: evaluation, pictures, model card, report, verification."""
