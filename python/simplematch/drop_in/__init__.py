"""Compares functions of other codebases with ours, which `simplematch_kernels.integrations` puts in their place."""
