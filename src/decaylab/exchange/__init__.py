"""Models in the file formats of other libraries. Nothing that trains imports this."""
