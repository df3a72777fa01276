"""How does the exported model take what users have? One file per kind of input, each copied into the export.

A file of this folder is the code of an MLflow model: it may import installed packages only, never this
project, and names in `BUNDLE` the files of the project that travel with it. The `kind` of
`Program.preprocess` chooses it.
"""
