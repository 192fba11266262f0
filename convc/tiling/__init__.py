"""How a layer is cut into tiles, and what that costs: arithmetic that lowerings and schedules share.

No code is generated here. A lowering's price and its schedule's default come from the same function, so
that what is promised is what runs.
"""
