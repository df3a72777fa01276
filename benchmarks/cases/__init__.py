"""A module per kind of work. Each has

CASES: list of `Case`;
VARIANTS: `Variant` by name; a library that only one of them has is imported within it;
make(folder, sizes): writes the data of a case into an empty folder, the same bytes for the same sizes.

Every variant of a case does equal work: the same data, network, initial weights, batch size and optimiser.
"""
