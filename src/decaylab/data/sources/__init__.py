"""One file for each data source, found by its name.

A file has
- `ABOUT`, a literal with the fields of `decaylab.sources.DataSource`;
- `prepare(data, folder, choice)`, which fills an empty folder and returns the content of its meta.json;
- `Prepared`, the `Dataset` that reads such a folder: `PreparedImages` or `PreparedText`, or a class of its own.
"""
