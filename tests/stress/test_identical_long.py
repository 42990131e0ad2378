"""Every way of reading, all at once, while the backing changes; for long."""
import os

import pytest

import identical

SECONDS = int(os.environ.get("STRESS_SECONDS", "60"))


@pytest.mark.parametrize("setup", identical.SETUPS)
def test_every_way_of_reading_brings_the_same_bytes_for_long(tmp_path, build_dir, setup):
    identical.check(tmp_path, build_dir, setup, max(5, SECONDS // 3))
