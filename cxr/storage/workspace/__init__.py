"""Work folders by address: one on S3 has a folder on this machine while it is worked with."""
