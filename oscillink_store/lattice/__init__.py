"""The lattice: relations between anchors, settling and ranking, without disk."""
