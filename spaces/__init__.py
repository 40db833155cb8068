"""What can be chosen: genes, candidates, spaces, and what becomes of them as torch modules."""
