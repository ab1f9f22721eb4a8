"""Settings of `firewall serve`: what may be said, and where it comes from."""

from firewall.config.settings import (
    CaptureSettings,
    RegionDetectorSettings,
    Settings,
    load_region_detector,
    load_settings,
)

__all__ = ["CaptureSettings", "RegionDetectorSettings", "Settings", "load_region_detector", "load_settings"]
