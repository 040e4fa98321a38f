"""Several processes, the ranks, that learn one model: rank 0 leads and holds it, the others follow."""
