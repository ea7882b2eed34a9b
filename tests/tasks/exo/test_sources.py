"""What hosts.yaml names as source or override, read as what it is."""

from __future__ import annotations

import pytest

from records.settings import override_name


@pytest.mark.parametrize(
    ("override", "name"),
    [
        ("tinygrad>=0.11", "tinygrad"),
        ("Tinygrad[testing] == 0.11.0 ; python_version > '3'", "tinygrad"),
        ("tinygrad @ git+https://host/tinygrad@v0.11.0", "tinygrad"),
        ("~/wheels/tinygrad-0.11.0-py3-none-any.whl", "tinygrad"),
        ("/srv/mlx_cpu-0.31.2.tar.gz", "mlx-cpu"),
        ("mlx-cpu==0.31.2", "mlx-cpu"),
        ("tinygrad-stubs==1", "tinygrad-stubs"),
        ("numpy  # for tinygrad", "numpy"),
    ],
)
def test_an_override_replaces_one_distribution(override: str, name: str) -> None:
    """Its name is parsed: one that merely mentions tinygrad, or begins like it, is another."""
    assert override_name(override) == name
