"""Segment images with what generative models already know: no training, no labels, no prompt.

```python
import genseg

seg = genseg.segment("photo.jpg")  # the bundled model
seg = genseg.segment("photo.jpg", backend="sd15", recipe="paper", n_clusters=25)
seg.merge(6).overlay()
```

The public names stand in ``__init__.pyi``; each is imported when it is first used, so that
``genseg --help`` does not wait for torch.
"""

import lazy_loader

from genseg.version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
