"""Settings of `firewall serve`: what can be set, and where values come from."""

from firewall.config.cameras import CameraSettings, cameras_named
from firewall.config.part import Part
from firewall.config.region_detector import RegionDetectorSettings
from firewall.config.settings import CaptureSettings, Settings, load_region_detector, load_settings
from firewall.config.sweep_key import read_sweep_key

__all__ = [
    "CameraSettings",
    "CaptureSettings",
    "Part",
    "RegionDetectorSettings",
    "Settings",
    "cameras_named",
    "load_region_detector",
    "load_settings",
    "read_sweep_key",
]
