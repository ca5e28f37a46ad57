"""Tests that can fail: the worst changes that we could think of, each noticed by a test that ought to notice it."""

import subprocess
import sys
from collections import Counter

import pytest

from tests.mutations import MUTATIONS, mutated


def test_every_mutation_still_has_a_place_and_tests_that_are_there(root):
    for m in MUTATIONS:
        source = (root / "xyield" / f"{m.module}.py").read_text()
        compile(mutated(source, m), m.title, "exec")
        for test in m.tests.split():
            file, _, name = test.partition("::")
            assert not name or f"def {name.partition('[')[0]}(" in (root / file).read_text(), m.title
    assert Counter(m.title for m in MUTATIONS).most_common(1)[0][1] == 1


@pytest.mark.slow
def test_every_mutation_is_noticed(root):
    done = subprocess.run([sys.executable, "tests/mutations.py"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-8000:]}{done.stderr[-3000:]}"
