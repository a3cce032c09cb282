"""Conv4's blocks in float32 on CUDA, as Triton kernels.

All but ``beside`` are imported only where they are tested and used: there may be no Triton.
"""
