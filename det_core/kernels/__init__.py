"""Device kernels of the temporal convolution: fused where Triton runs, the same mathematics in torch elsewhere.

`temporal_conv` is what the rest of the package calls; `reference` is eq. 2 as it reads, for tests and benchmarks.
"""
