"""Films in DICOM files: whether a file is one film, its gray levels as a viewer shows them, its tags."""
