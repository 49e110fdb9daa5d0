"""What the names of folders mean: splits, classes, masks, exclude patterns."""
