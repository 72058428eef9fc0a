"""How the shipped weights are made, from nothing but a seed and real chests whose licence allows it."""
