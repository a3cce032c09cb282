"""Sums over pixels, divided among the programs of a kernel: checked without a GPU."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pamela_cli.engine.kernels.shares import shared


@given(st.integers(1, 10**7), st.sampled_from([16, 32, 64]), st.integers(1, 3000))
def test_every_pixel_is_in_one_share_of_whole_blocks(pixels: int, block: int, programs: int) -> None:
    shares, per = shared(pixels, block, programs)
    assert per % block == 0
    assert (shares - 1) * per < pixels <= shares * per
    assert shares == 1 or per >= 4 * block


def test_programs_fill_a_large_gpu_and_are_no_more_than_that_takes() -> None:
    assert shared(10**6, 32, 4) == (255, 3936)  # 1,020 programs
    assert shared(10**6, 32, 2000)[0] == 1
