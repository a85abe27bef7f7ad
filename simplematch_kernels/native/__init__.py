"""The compiled module behind the operators of torch tensors: on the CPU, and on a GPU."""
