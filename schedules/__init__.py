"""Schedules: how lowered kernels run on a machine."""
