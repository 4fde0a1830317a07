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
from genseg.contract.context import CheckContext, NotApplicable
from genseg.interface import Backend


class BackendContract:
    """Every check of `genseg.contract.checks` as a test. Subclass it and define a fixture ``backend``.

    Attributes:
        overrides: Recipe keys laid over those of a quick recipe.
        locality: Whether a change at a position must have most of its effect there; untrained weights may fail this.
        tolerance: Allowed relative difference between two ways to compute one row; about 0.1 in bfloat16.
        lossy: Allowed RMSE of the reconstruction where it is declared approximate.
    """

    overrides: ClassVar[Mapping[str, Any]] = {}
    locality: ClassVar[bool] = True
    tolerance: ClassVar[float] = 1e-3
    lossy: ClassVar[float] = 0.5

    @pytest.fixture(scope="class")
    def context(self, backend: Backend) -> CheckContext:
        """The backend with the inputs of its checks, shared by all of them."""
        return CheckContext(backend, self.overrides, locality=self.locality, tolerance=self.tolerance, lossy=self.lossy)

    @pytest.mark.parametrize("check", CHECKS)
    def test_contract(self, context: CheckContext, check: str) -> None:
        """Run one check."""
        try:
            CHECKS[check](context)
        except NotApplicable as reason:
            pytest.skip(str(reason))
