"""Work folders by URI: what lies on S3 has a local folder while it is worked with."""
