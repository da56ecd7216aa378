"""Studies: the comparisons of the papers, as arms, seeds and conditions around one spec."""
