"""How fast the project is: beside fastai and a bare loop, with more rows, and around the work of a stage."""
