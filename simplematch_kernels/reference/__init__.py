"""The operators in plain PyTorch: their definition, the oracle of the tests, and the backend that always runs."""
