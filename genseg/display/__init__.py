"""Colors, captions and HTML pages."""
