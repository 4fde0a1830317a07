from .calibration import Calibration as Calibration
from .calibration import calibrate as calibrate
from .comparing import compare as compare
from .comparison import Comparison as Comparison
from .embedder import Embedder as Embedder
from .embedder import list_embedders as list_embedders
from .embedder import load_embedder as load_embedder
from .errors import GensegError as GensegError
from .interface import Backend as Backend
from .interface import Capabilities as Capabilities
from .interface import FeatureTap as FeatureTap
from .interface import ModelCard as ModelCard
from .interface import ModulationPoint as ModulationPoint
from .modulate import difference_maps as difference_maps
from .naming import Names as Names
from .naming import name_masks as name_masks
from .plugins import PluginInfo as PluginInfo
from .recipe import Recipe as Recipe
from .recipe import load_recipe as load_recipe
from .registry import list_backends as list_backends
from .registry import load_backend as load_backend
from .segmentation import Cost as Cost
from .segmentation import Segmentation as Segmentation
from .segmenter import Segmenter as Segmenter
from .segmenter import segment as segment
from .students.distill import distill as distill

__version__: str
