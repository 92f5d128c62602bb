"""Ask about an image in ten languages, on an ordinary CPU."""
