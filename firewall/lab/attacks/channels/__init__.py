"""What happens to pixels between the attacker and the network: compression, resampling, blur, noise.

Start with `channel` for what a channel is, and `names` for the table of their names.
"""

from firewall.lab.attacks.channels.channel import Chain, Channel, sent, stand_in
from firewall.lab.attacks.channels.names import CHANNELS, parse_channel

__all__ = ["CHANNELS", "Chain", "Channel", "parse_channel", "sent", "stand_in"]
