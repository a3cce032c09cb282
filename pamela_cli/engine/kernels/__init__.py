"""Conv4's blocks in float32 on CUDA, as Triton kernels; imported only where they are tested and used."""
