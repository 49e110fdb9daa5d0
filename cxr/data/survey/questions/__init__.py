"""What has to be asked before a run, in sentences with the flags that answer it."""
