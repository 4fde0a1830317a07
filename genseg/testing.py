"""The contract of backends as pytest tests, for authors of plug-ins.

```python
import genseg
import pytest
from genseg.testing import BackendContract


class TestMine(BackendContract):
    @pytest.fixture(scope="class")
    def backend(self):
        return genseg.load_backend("mine")
```
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from genseg.contract.checks import CHECKS
from genseg.contract.context import NotAsked, Subject
from genseg.interface import Backend


class BackendContract:
    """Every promise of `genseg.contract.checks`, a test each. Subclass it and give a fixture ``backend``.

    Attributes:
        overrides: Recipe keys to check with, beside those of a quick recipe of the backend's own.
        locality: Whether what is changed at a position must change most there, which untrained weights need not do.
        tolerance: What two ways to compute one row may differ by; about 0.1 in bfloat16.
        lossy: RMSE that reconstructing may cost where it is declared to be approximate.
    """

    overrides: ClassVar[Mapping[str, Any]] = {}
    locality: ClassVar[bool] = True
    tolerance: ClassVar[float] = 1e-3
    lossy: ClassVar[float] = 0.5

    @pytest.fixture(scope="class")
    def subject(self, backend: Backend) -> Subject:
        """The backend and what it is checked with; what checks have in common is computed once."""
        return Subject(backend, self.overrides, locality=self.locality, tolerance=self.tolerance, lossy=self.lossy)

    @pytest.mark.parametrize("check", CHECKS)
    def test_contract(self, subject: Subject, check: str) -> None:
        """One promise."""
        try:
            CHECKS[check](subject)
        except NotAsked as reason:
            pytest.skip(str(reason))
