"""The CPU target: schedules, generated kernels, the ahead-of-time nest, and their runtime."""
