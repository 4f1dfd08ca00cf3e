"""The budget aggregate: what a group of agents may spend, within what its parent may."""
