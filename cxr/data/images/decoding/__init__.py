"""From bytes to pixels, format by format; what a decoder would only warn of is an error."""
