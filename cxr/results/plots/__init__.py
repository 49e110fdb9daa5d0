"""The pictures of a run's results, one file each; `pictures` draws them all."""
