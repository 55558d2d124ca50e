"""The web page for people: one file a page. It knows the loop through the REST API alone."""
