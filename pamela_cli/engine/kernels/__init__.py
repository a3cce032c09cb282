"""Conv4's blocks in float32 on CUDA, as Triton kernels; imported where they are tried and used."""
