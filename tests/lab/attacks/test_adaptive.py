"""Attacks on a whole firewall: the picture is the edge's, and the attacks are as strong as they have to be."""

from __future__ import annotations
