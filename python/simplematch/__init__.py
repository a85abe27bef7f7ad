"""SimpleMatch: semantic correspondence on `simplematch_kernels` (models, data, training, evaluation)."""
