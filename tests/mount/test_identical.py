"""Every way of reading, all at once, while the backing changes; short. See tests/stress."""
import pytest

import identical
import mounting


@pytest.mark.parametrize("setup", identical.SETUPS)
def test_every_way_of_reading_brings_the_same_bytes(tmp_path, build_dir, setup):
    identical.check(tmp_path, build_dir, setup, 10 if mounting.SANITIZED else 4)
