"""Labels that the images speak against: ranked for a reader, whose answers preprocessing applies."""
