"""Settings of `firewall serve`: what can be set, and where values come from."""

from firewall.config.region_detector import RegionDetectorSettings
from firewall.config.settings import CaptureSettings, Settings, load_region_detector, load_settings

__all__ = ["CaptureSettings", "RegionDetectorSettings", "Settings", "load_region_detector", "load_settings"]
