"""Page: a student in a browser, as one HTML file that asks nobody for anything."""
