"""What is at a place with images, what a run would make of it, and what has to be asked first."""
