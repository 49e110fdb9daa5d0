"""From bytes to pixels, format by format; nothing that a decoder would only warn of is overlooked."""
