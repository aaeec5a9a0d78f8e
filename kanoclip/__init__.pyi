from kanoclip.predict import Calibration as Calibration
from kanoclip.predict import Detector as Detector
from kanoclip.predict import Region as Region
from kanoclip.predict import Result as Result
from kanoclip.predict import Threshold as Threshold
from kanoclip.predict import load as load
from kanoclip.types import InputError as InputError

__version__: str
