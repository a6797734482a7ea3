from __future__ import annotations

import pytest

from trainer.training import placement

# Kernels and biases by turns, as in the networks of 2017.
SIZES = [1000, 1] * 12


def test_by_turns_an_even_number_of_servers_parts_kernels_from_biases() -> None:
    assert placement.by_turns(SIZES, 2) == [12000, 12]
    assert placement.by_turns(SIZES, 3) == [4004, 4004, 4004]


@pytest.mark.parametrize("servers", range(1, 9))
def test_by_size_any_number_of_servers_is_even(servers: int) -> None:
    loads = placement.by_size(SIZES, servers)
    assert sum(loads) == sum(SIZES)
    assert max(loads) <= -(-12 // servers) * 1000 + 12
